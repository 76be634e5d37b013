"""The way to and from a hospital's archive (PACS): new series come in once, masks go back beside their study."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
