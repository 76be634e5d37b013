"""A trained model for others: a folder that a container is built from, and a model repository of Triton."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
