"""Choosing the configuration of a workspace by cross-validation: candidates on the same folds, case by case."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
