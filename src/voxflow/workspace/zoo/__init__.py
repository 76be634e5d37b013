"""The model zoo: the published models by name, and the files of a workspace for each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
