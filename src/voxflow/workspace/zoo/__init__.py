"""Owns the model zoo: the published models by name, and the files of a workspace for each."""

from voxflow.workspace.zoo.files import VARIANTS, Variant, write_model
from voxflow.workspace.zoo.models import ZooModel, find, zoo

__all__ = ["VARIANTS", "Variant", "ZooModel", "find", "write_model", "zoo"]
