"""Workspaces: an MMAR folder, alone or with its block of params.yaml, made from a template; folds and new patients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
