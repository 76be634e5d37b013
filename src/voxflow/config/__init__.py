"""Configurations: each dialect is read into one typed workflow, and every fault is reported at once."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
