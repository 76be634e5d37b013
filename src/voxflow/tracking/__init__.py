"""Owns the record of every model: one MLflow run a training, which the later stages continue."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
