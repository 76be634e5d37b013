"""Computes the grid that MONAI's Orientation and Spacing lead to, and the voxels that torch takes for the nearest.

After MONAI 1.6 (Apache-2.0): ``zoom_affine``, ``compute_shape_offset`` and ``to_norm_affine``; and after torch's
``affine_grid`` and ``grid_sample``. Both are followed operation by operation: whether the new grid begins with the
image or lies around its middle, and which of two equally near voxels is taken, hangs on the last digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.bounds import check_resampling
from voxflow.geometry import LPS_TO_RAS, Geometry
from voxflow.volumes import target_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

# Spacing leaves an axis as it is that is so near to what is asked for, mm.
SAME_MM = 1e-3


def compute_monai_grid(native: Geometry, spec: ModelSpec) -> Geometry:
    """Compute the grid on which an adopted bundle shows its network an image.

    Args:
        native: the image's own grid.
        spec: of a model with ``monai``; gives orientation and spacing.

    Raises:
        DataError: a grid of far more voxels than the image has.
    """
    oriented = target_geometry(native, None, spec.orientation)
    if spec.spacing_mm is None:
        return oriented
    affine = oriented.affine_ras
    steps = [
        own if abs(own - step) <= SAME_MM else step for own, step in zip(oriented.spacing, spec.spacing_mm, strict=True)
    ]
    zoomed = _zoom(affine, steps)
    size, zoomed[:3, 3] = _find_shape_and_offset(oriented.size, affine, zoomed)
    check_resampling(oriented.size, size)
    # MONAI notes the new affine as the old one and what leads from it to the new one.
    noted = affine @ np.linalg.solve(affine, zoomed)
    noted[3] = (0, 0, 0, 1)
    i, j, k = size
    return Geometry((i, j, k), LPS_TO_RAS @ noted)


def find_torch_nearest(source: Geometry, target: Geometry) -> list[NDArray[np.intp]]:
    """Find the nearest voxels of one grid for those of another one, along the same axes, as torch's grid_sample does.

    Args:
        source: the grid that is read.
        target: the grid that is filled; its axes follow those of ``source`` in their order.

    Returns:
        For each axis the numbers of the voxels of ``source`` that ``target`` takes; of two that are equally near, the
        one that rounding in double precision leads to.
    """
    matrix = np.linalg.solve(source.affine_ras, target.affine_ras)
    theta = _normalise(source.size) @ matrix @ np.linalg.inv(_normalise(target.size))
    nearest = []
    for axis, (have, need) in enumerate(zip(source.size, target.size, strict=True)):
        coordinates = _space_evenly(need) * theta[axis, axis] + theta[axis, 3]
        positions = ((coordinates + 1) * have - 1) / 2
        nearest.append(np.rint(np.clip(positions, 0, have - 1)).astype(np.intp))
    return nearest


def _zoom(affine: NDArray[np.float64], steps: Sequence[float]) -> NDArray[np.float64]:
    """An affine with the same axes and other steps; its origin is not there yet."""
    axes = affine[:3, :3]
    scales = np.linalg.cholesky(axes.T @ axes).T
    zoomed = np.eye(4)
    zoomed[:3, :3] = axes @ np.linalg.inv(scales) @ np.diag(np.sign(np.diag(scales)) * np.abs(steps))
    return zoomed


def _find_shape_and_offset(
    size: Sequence[int], affine: NDArray[np.float64], zoomed: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64]]:
    """Voxels of the new grid, and where its first one lies: at a corner of the image, else around its middle."""
    ends = np.meshgrid(*[(0.0, side - 1.0) for side in size], indexing="ij")
    corners = np.concatenate((np.asarray(ends).reshape((3, -1)), np.ones((1, 8))))
    places = (np.linalg.solve(zoomed, affine) @ corners)[:3]
    shape = np.round(np.ptp(places, axis=1) + 1.0)
    positions = (affine @ corners)[:3]
    for number in range(corners.shape[1]):
        if np.allclose(np.min(places - places[:, number : number + 1], axis=1), 0.0):
            return shape.astype(int).tolist(), positions[:, number]
    middle = affine[:3, :3] @ (np.asarray(size, dtype=float) / 2.0) + affine[:3, 3]
    return shape.astype(int).tolist(), middle - zoomed[:3, :3] @ (shape / 2.0)


def _normalise(size: Sequence[int]) -> NDArray[np.float64]:
    """The map of voxels to torch's coordinates, from -1 to 1 at the outer faces."""
    sides = np.asarray(size, dtype=np.float64)
    matrix = np.diag([*(2.0 / sides), 1.0])
    matrix[:3, 3] = 1.0 / sides - 1.0
    return matrix


def _space_evenly(count: int) -> NDArray[np.float64]:
    """Coordinates of the voxels' centres as torch has them: its linspace, counted from both ends."""
    if count == 1:
        return np.zeros(1)
    # torch adds to the exact product (FMA), which a double can't hold.
    step, numbers = np.longdouble(2.0 / (count - 1)), np.arange(count, dtype=np.longdouble)
    line = np.where(numbers < count // 2, step * numbers - 1, 1 - step * (count - numbers - 1)).astype(np.float64)
    return np.asarray(line * (count - 1) / count)
