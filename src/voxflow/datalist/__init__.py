"""Datalists, the JSON files that list cases: reading them strictly, and splitting a case table into one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
