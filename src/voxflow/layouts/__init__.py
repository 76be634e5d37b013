"""The folder layouts of known data sets: nnU-Net, Decathlon, BraTS, BIDS, TotalSegmentator, 3D Slicer, tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
