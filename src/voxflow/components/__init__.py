"""Components: the names that configurations use, as typed classes on torch and MONAI, and their registry.

Importing this package imports neither torch nor MONAI.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
