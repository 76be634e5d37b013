"""Migration of a Clara or TLT workspace to a MONAI bundle, with an account of what became of each component."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
