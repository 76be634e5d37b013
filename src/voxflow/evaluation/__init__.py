"""How good a model is: the scores of a case and of a cohort, with their tables, pictures and intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
