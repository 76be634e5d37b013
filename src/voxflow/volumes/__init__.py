"""Images as arrays with a grid: reading and writing files, resampling, and the fingerprint of a data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
