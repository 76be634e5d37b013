"""Training of a network: one explicit loop, the data that it learns from, checkpoints and continuation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
