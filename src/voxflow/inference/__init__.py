"""Owns inference: engines behind one protocol, window plans, geometry there and back, evaluation, writers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
