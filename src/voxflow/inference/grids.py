"""Owns the ways between an image's own grid and the network's: the same box, axes turned, spacing changed.

Both grids have parallel axes, so that the way back needs one table of indices an axis; a voxel beyond the last
centre takes the nearest one, and no border is lost to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.volumes import Volume, resample, target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.spec import ModelSpec


def to_network(volume: Volume, spec: ModelSpec) -> Volume:
    """Bring an image to the orientation and spacing that the network was trained at, as the stage resample does."""
    grid = target_geometry(volume.geometry, spec.spacing_mm, spec.orientation, spec.extent)
    fill = float(volume.array.min())
    return resample(volume, grid, spec.interpolation, fill, antialias=spec.antialias)


def labels_to(labels: Volume, geometry: Geometry) -> Volume:
    """Bring a label map to a grid with parallel axes; each voxel takes the nearest one.

    Raises:
        DataError: the grids are rotated against each other.
    """
    order, positions = _tables(labels.geometry, geometry)
    nearest = [
        np.clip(np.floor(at + 0.5).astype(int), 0, n - 1) for at, n in zip(positions, labels.array.shape, strict=True)
    ]
    return Volume(np.ascontiguousarray(labels.array[np.ix_(*nearest)].transpose(order)), geometry)


def scores_to(scores: NDArray[np.float32], source: Geometry, geometry: Geometry) -> NDArray[np.float32]:
    """Bring one class's scores (i, j, k) to a grid with parallel axes, linearly.

    Raises:
        DataError: the grids are rotated against each other.
    """
    order, positions = _tables(source, geometry)
    for axis, at in enumerate(positions):
        scores = _linear(scores, axis, np.clip(at, 0, scores.shape[axis] - 1))
    return np.ascontiguousarray(scores.transpose(order))


def _tables(source: Geometry, target: Geometry) -> tuple[Sequence[int], list[NDArray[np.float64]]]:
    """For each axis of ``source`` the positions that ``target`` reads, and how to order the axes afterwards."""
    matrix = np.linalg.solve(source.affine, target.affine)
    turn = matrix[:3, :3]
    axes = np.argmax(np.abs(turn), axis=1)
    aligned = np.zeros((3, 3))
    aligned[range(3), axes] = turn[range(3), axes]
    # What the other axes would add across the whole image must stay well below one voxel.
    drift = np.abs(turn - aligned) @ np.asarray(target.size)
    if sorted(axes) != [0, 1, 2] or drift.max() > 0.1:
        raise DataError("the two grids are rotated against each other")
    positions = [matrix[n, 3] + turn[n, axes[n]] * np.arange(target.size[axes[n]]) for n in range(3)]
    return [int(n) for n in np.argsort(axes)], positions


def _linear(array: NDArray[np.float32], axis: int, at: NDArray[np.float64]) -> NDArray[np.float32]:
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, array.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (at - low).astype(np.float32).reshape(shape)
    first: NDArray[Any] = array.take(low, axis)
    return np.asarray(first + (array.take(high, axis) - first) * share)
