"""A model's work on many cases: finding and reading them; masks, DICOM SEG and tables; resuming; a cluster."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
