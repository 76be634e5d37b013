"""The check of a workspace: configurations, environment, datalist and image files, all findings at once.

Importing this package imports neither torch nor MONAI, and neither does a check.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
