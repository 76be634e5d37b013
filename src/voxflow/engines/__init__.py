"""What runs a model: one protocol, the catalogue of engines, and one module an engine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
