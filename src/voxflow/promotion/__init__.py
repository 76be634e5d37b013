"""Promotion: a new model against the present champion, case by case, and the decision that is written down."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
