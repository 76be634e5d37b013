"""Runs an MMAR by hand, without a pipeline around it: train, export, evaluate and infer in its folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
