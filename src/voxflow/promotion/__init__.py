"""Promotion: compares a new model with the present champion case by case, and records the decision."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
