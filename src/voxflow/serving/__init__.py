"""The HTTP service: an exported model behind a socket that trusts nobody."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
