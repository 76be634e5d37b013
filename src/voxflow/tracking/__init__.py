"""The record of trainings at MLflow: runs, their numbers and files, registered models and their aliases."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
