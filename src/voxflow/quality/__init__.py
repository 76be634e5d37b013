"""Data checks: the measurements of every case, the expectations, and their severity."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
