"""Owns planning a training before it runs: the machine, and what follows from it and the data's fingerprint."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
