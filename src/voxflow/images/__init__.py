"""What any image becomes: a case of a table, under a pseudonym; and images that are no DICOM."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
