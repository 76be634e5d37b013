"""DICOM in and out: scanning folders, checking series, converting them to volumes with labels, and writing DICOM SEG.

The way of a folder, module by module: ``scan`` finds the objects, ``plain`` and ``headers`` read their headers;
``group`` and ``split`` sort them into volumes, radiographs and labels; ``series`` makes one case of each, by
``reading`` (``grid``, ``pixels``, ``padding``, ``pet``, ``remedy``) and ``labels`` (``references`` to images,
``label_grid``, ``seg``, ``rtstruct`` with ``contours``); ``convert`` writes the tables.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
