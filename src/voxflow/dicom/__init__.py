"""Owns DICOM: scanning, checking, converting to volumes, labels in and out, and the pass-through of other formats."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
