"""Runs a model on many cases: reads them, writes masks, DICOM SEG and tables, resumes, and can use a cluster."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
