"""Planning a training before it runs: what follows from the machine and from the data's fingerprint."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
