"""Images as people look at them: windows of intensities, upright planes, and the case viewer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
