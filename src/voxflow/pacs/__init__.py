"""Owns the way to and from a hospital's archive: what is new there comes in once, masks go back beside their study."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
