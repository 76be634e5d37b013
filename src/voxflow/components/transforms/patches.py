"""Sampling a bent, turned patch out of a volume in one interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components.transforms.base import is_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rotation_matrix(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3×3 rotation about axis i, then j, then k.

    Args:
        angles: radians about (i, j, k), right-handed.

    Example:
        >>> rotation_matrix(np.array([0, 0, np.pi / 2])).round(6) @ [1, 0, 0]
        array([0., 1., 0.])
    """
    (ci, cj, ck), (si, sj, sk) = np.cos(angles), np.sin(angles)
    about_i = np.array([[1, 0, 0], [0, ci, -si], [0, si, ci]])
    about_j = np.array([[cj, 0, sj], [0, 1, 0], [-sj, 0, cj]])
    about_k = np.array([[ck, -sk, 0], [sk, ck, 0], [0, 0, 1]])
    return np.asarray(about_k @ about_j @ about_i)


def patch_matrix(spacing: NDArray[np.float64], angles: NDArray[np.float64], factor: float = 1.0) -> NDArray[np.float64]:
    """Return the 3×3 matrix from an offset in the patch to one in the image, both in voxels from the patch's centre.

    Args:
        spacing: mm along (i, j, k); the rotation happens in mm, so that angles are true on anisotropic grids.
        angles: radians about (i, j, k).
        factor: magnification; above 1 the patch shows less of the image.
    """
    return np.asarray(np.diag(1 / spacing) @ rotation_matrix(angles) @ np.diag(spacing) / factor)


def patch_points(
    size: tuple[int, int, int],
    centre: NDArray[np.float64],
    spacing: NDArray[np.float64],
    *,
    angles: NDArray[np.float64],
    factor: float = 1.0,
    bend: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Where each voxel of a patch lies in its image.

    Args:
        size: (i, j, k) of the patch.
        centre: its centre, fractional voxel index (i, j, k).
        spacing: mm along (i, j, k); rotation is in mm, so that angles are true.
        angles: radians about (i, j, k).
        factor: magnification.
        bend: displacements at control points spread over the patch, (3, n, n, n), mm.

    Returns:
        Fractional voxel indices (*size, 3).
    """
    matrix = patch_matrix(spacing, angles, factor)
    # Broadcast sums in float32: a grid of float64 indices would take six times the patch's own memory.
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) for n in size]
    columns = matrix.astype(np.float32).T
    points = (
        axes[0][:, None, None, None] * columns[0]
        + axes[1][None, :, None, None] * columns[1]
        + axes[2][None, None, :, None] * columns[2]
    ) + np.asarray(centre, dtype=np.float32)
    if bend is not None:
        points += _spread(bend / spacing[:, None, None, None], size)
    return np.asarray(points, dtype=np.float32)


def _spread(control: NDArray[np.float64], size: tuple[int, int, int]) -> NDArray[np.float32]:
    """Interpolate control points (3, n, n, n) over a patch: (*size, 3)."""
    import torch
    from torch.nn.functional import interpolate

    field = torch.from_numpy(control.astype(np.float32))[None]
    spread = interpolate(field, size=size, mode="trilinear", align_corners=True)[0]
    return np.asarray(spread.permute(1, 2, 3, 0).numpy())


def sample_at(array: NDArray[Any], points: NDArray[np.float32]) -> NDArray[Any]:
    """Read an array at fractional voxel indices; linear for images, nearest for masks, 0 outside.

    Only the box that holds the points is read, so that a memory-mapped array stays on disk elsewhere.

    Args:
        array: (channel, i, j, k).
        points: (..., 3) voxel indices (i, j, k).

    Returns:
        (channel, ...) of the array's type.
    """
    import torch
    from torch.nn.functional import grid_sample

    # Axis by axis: NumPy reduces a trailing axis of three ten times slower. One voxel of margin: at the
    # image's own border the zero padding beyond it takes part.
    axes = [points[..., axis] for axis in range(3)]
    low = np.maximum(np.floor([axis.min() for axis in axes]).astype(int) - 1, 0)
    high = np.minimum(np.ceil([axis.max() for axis in axes]).astype(int) + 2, array.shape[1:])
    low = np.minimum(low, np.array(array.shape[1:]) - 1)
    high = np.maximum(high, low + 1)
    box = array[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    extent = np.maximum(high - low - 1, 1).astype(np.float32)
    grid = ((points - low.astype(np.float32)) / extent * 2 - 1)[..., ::-1]
    sampled = grid_sample(
        torch.from_numpy(np.ascontiguousarray(box, dtype=np.float32))[None],
        torch.from_numpy(np.ascontiguousarray(grid))[None],
        mode="nearest" if is_mask(array) else "bilinear",
        align_corners=True,
    )
    return np.asarray(sampled[0].numpy().astype(array.dtype))
