"""Drift: how incoming studies differ from the data that a model was trained on, and whether to retrain."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
