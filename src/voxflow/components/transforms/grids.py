"""Owns where a field's voxels lie: a sample notes the affine of each image beside it, and crops move it along.

Augmentations that turn, flip or zoom the content leave it as it is: they change the patient, not the grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxflow.components.transforms.base import Sample

SPACING = "spacing"  # (i, j, k) in mm of the image that was loaded first, or as it was resampled since


def affine_key(name: str) -> str:
    """The key under which a field's affine stands: 4×4 float64, voxel index → mm, LPS."""
    return f"{name}_affine"


def read_geometry(sample: Sample, name: str) -> Geometry:
    """The grid of a field (channel, i, j, k); without a note it begins at 0 with the sample's spacing."""
    shape = sample[name].shape[-3:]
    affine = sample.get(affine_key(name))
    if affine is not None:
        return Geometry(shape, affine)
    return Geometry.from_parts(shape, sample.get(SPACING, (1.0, 1.0, 1.0)))


def affine_entries(names: Iterable[str], geometry: Geometry) -> dict[str, Any]:
    """What to note of fields that lie on a grid."""
    return {affine_key(name): np.array(geometry.affine) for name in names}


def shift_affines(sample: Sample, names: Iterable[str], start: NDArray[Any]) -> dict[str, Any]:
    """The affines of fields after their voxel ``start`` has become the first."""
    return move_affines(sample, names, np.eye(3), np.asarray(start, float))


def move_affines(
    sample: Sample, names: Iterable[str], matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> dict[str, Any]:
    """The affines of fields whose new index p reads the old one at ``matrix @ p + offset``."""
    if len(offset) != 3:
        return {}
    change = np.eye(4)
    change[:3, :3], change[:3, 3] = matrix, offset
    keys = [affine_key(name) for name in names if affine_key(name) in sample]
    return {key: sample[key] @ change for key in keys}


def rescale_affines(sample: Sample, names: Iterable[str], shape: tuple[int, ...]) -> dict[str, Any]:
    """The affines of fields that get another shape, outer face to outer face."""
    affines: dict[str, Any] = {}
    for name in names:
        old = np.array(sample[name].shape[1:], float)
        ratio = old / np.array(shape)
        affines |= move_affines(sample, [name], np.diag(ratio), ratio / 2 - 0.5)
    return affines
