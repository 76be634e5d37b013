"""Synthetic patients, written as real DICOM, so that everything can be tried without any download."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
