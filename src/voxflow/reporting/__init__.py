"""HTML pages that people look at: the report of a workspace, its model card, and the index of all pages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
