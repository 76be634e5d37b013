"""Trains, exports, evaluates and infers with an MMAR in its own folder, without a pipeline around it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
