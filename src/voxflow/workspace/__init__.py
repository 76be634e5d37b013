"""Makes workspaces from templates: an MMAR folder, alone or with its block of params.yaml."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
