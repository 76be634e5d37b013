"""Owns the components: Clara's and TLT's names as typed classes on torch and MONAI, and their registry.

Importing this package imports neither torch nor MONAI.
"""

from voxflow.components.chain import Chain, build_transform
from voxflow.components.component import Component, Named
from voxflow.components.networks import build_network, complete_network, read_network
from voxflow.components.registry import create, known
from voxflow.components.transform import RandomTransform, Sample, Transform

__all__ = [
    "Chain",
    "Component",
    "Named",
    "RandomTransform",
    "Sample",
    "Transform",
    "build_network",
    "build_transform",
    "complete_network",
    "create",
    "known",
    "read_network",
]
