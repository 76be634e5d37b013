"""How far a model's answer to one case can be trusted: a bound of its Dice, and whether a person should look at it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
