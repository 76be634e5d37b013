"""Reads a label file for an image: whole, known values on the image's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images.table import format_geometry
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# A hundredth of a millimetre: NIfTI keeps the affine in single precision.
GRID_TOLERANCE_MM = 1e-2
NO_NAMES = (
    "label files hold numbers, and other labels here have names: say by the option labels which number is which name"
)


def read_label(path: Path, grid: Geometry, values: Collection[int] | None, *, turn: bool = False) -> Volume:
    """Read a label.

    Args:
        path: the file.
        grid: of its image.
        values: that have a name; None: any.
        turn: take a label whose axes run the other way, or in another order, through the same voxels.

    Returns:
        uint8, or uint16 where a value needs it, on ``grid``.

    Raises:
        DataError: it is unreadable, on another grid than its image, or has values that it should not have.
    """
    label = read_volume(path)
    label = (turn_axes(label, grid) if turn else None) or label
    if not label.geometry.is_close(grid, tolerance_mm=GRID_TOLERANCE_MM):
        image_texts, label_texts = format_geometry(grid), format_geometry(label.geometry)
        raise DataError(
            f"image and label lie on different grids: size {image_texts['size']} and {label_texts['size']}, spacing "
            f"{image_texts['spacing_mm']} and {label_texts['spacing_mm']} mm, "
            f"origin {_format_origin(grid)} and {_format_origin(label.geometry)}, "
            f"orientation {image_texts['orientation']} and {label_texts['orientation']}"
        )
    present_values = np.unique(label.array)
    is_whole = np.array_equal(present_values, np.rint(present_values))
    if not is_whole or present_values.min() < 0 or present_values.max() > 65535:
        raise DataError(f"label values are no whole numbers from 0: {present_values[:5].tolist()}")
    unknown = sorted({int(value) for value in present_values} - {0, *values}) if values else []
    if unknown:
        raise DataError(f"label values {unknown} have no name in the option labels, which names {sorted(values or ())}")
    # The narrowest type that holds them all: uint8 in nearly every data set.
    dtype = np.uint8 if present_values.max() < 256 else np.uint16
    return Volume(label.array.astype(dtype), grid)


def turn_axes(volume: Volume, grid: Geometry) -> Volume | None:
    """Bring a volume onto a grid by reversing and exchanging axes alone; no voxel changes.

    Returns:
        The same voxels in the order of ``grid``; None where the grids differ in more than the order of their voxels.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> grid = Geometry.from_parts((3, 1, 1), (1, 1, 1))
        >>> flipped = Geometry.from_parts((3, 1, 1), (1, 1, 1), (2, 0, 0), [-1, 0, 0, 0, 1, 0, 0, 0, 1])
        >>> turn_axes(Volume(np.array([[[1]], [[2]], [[3]]]), flipped), grid).array.ravel().tolist()
        [3, 2, 1]
    """
    steps = np.rint(np.linalg.solve(grid.affine, volume.geometry.affine)[:3, :3])
    if not np.array_equal(abs(steps) @ abs(steps).T, np.eye(3)):
        return None
    order = tuple(int(axis) for axis in abs(steps).argmax(axis=1))
    signs = steps.sum(axis=1)
    array = volume.array.transpose(order)[tuple(slice(None, None, int(sign)) for sign in signs)]
    first_index = np.zeros(3)
    for axis, sign in zip(order, signs, strict=True):
        first_index[axis] = 0 if sign > 0 else volume.array.shape[axis] - 1
    affine = volume.geometry.affine.copy()
    affine[:3, :3] = volume.geometry.affine[:3, order] * signs
    affine[:3, 3] = volume.geometry.to_physical(first_index)
    turned = Geometry((array.shape[0], array.shape[1], array.shape[2]), affine)
    return Volume(array, grid) if turned.is_close(grid, tolerance_mm=GRID_TOLERANCE_MM) else None


def _format_origin(grid: Geometry) -> str:
    return " ".join(f"{mm:.2f}" for mm in grid.origin)
