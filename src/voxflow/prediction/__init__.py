"""One image's way through a model and back: its grid, windows, blending, mirroring, ensembles, labels, cleaning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
