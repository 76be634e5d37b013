"""Data checks: what is measured of every case, what is expected of it, and how grave a miss is."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
