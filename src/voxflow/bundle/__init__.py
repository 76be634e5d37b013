"""MONAI bundles as they are: their own configurations run by monai.bundle, watched from outside."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
