"""Sampling a bent, turned patch out of a volume in one interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components.transforms.base import is_mask
from voxflow.components.transforms.tensors import bring_to_device, sample_tensors, upload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.transforms.tensors import Items

    Size = tuple[int, int, int]
    Box = tuple[NDArray[np.int64], NDArray[np.int64]]


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


@dataclass(frozen=True, eq=False)
class PatchPose:
    """Where a patch lies in its image.

    Attributes:
        matrix: 3×3, from an offset in the patch to one in the image, voxels.
        centre: fractional voxel index (i, j, k) of the patch's centre.
        bend: displacements at control points spread over the patch, (3, n, n, n), voxels; None: none.
    """

    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]
    bend: NDArray[np.float64] | None

    @classmethod
    def of_draw(cls, parameters: Mapping[str, Any]) -> PatchPose:
        """Read what a crop has drawn: "centre", "angles", "factor", "bend" in mm, and the image's "spacing"."""
        spacing, bend = parameters["spacing"], parameters["bend"]
        matrix = patch_matrix(spacing, parameters["angles"], parameters["factor"])
        return cls(matrix, parameters["centre"], None if bend is None else bend / spacing[:, None, None, None])

    def find_box(self, size: Size, shape: Sequence[int]) -> Box:
        """Find the voxels that a patch reads.

        Args:
            size: (i, j, k) of the patch.
            shape: of the image.

        Returns:
            The first voxel, and the one after the last, inside the image.
        """
        reach = np.abs(self.matrix) @ ((np.array(size) - 1) / 2)
        if self.bend is not None:
            # Between control points a bend is a mean of theirs.
            reach = reach + np.abs(self.bend).max((1, 2, 3))
        last = np.array(shape) - 1
        low = np.clip(np.floor(self.centre - reach).astype(int) - 1, 0, last)
        return low, np.clip(np.ceil(self.centre + reach).astype(int) + 2, low + 1, last + 1)


def sample_patches(items: Items, poses: Sequence[PatchPose], size: Size, device: torch.device) -> torch.Tensor:
    """Read patches out of images of any shapes as :func:`sample_at` does, all in one interpolation on a device.

    Only the box that a patch reads is brought to the device.

    Args:
        items: (channel, i, j, k) each, wherever they lie.
        poses: of each item's patch.
        size: (i, j, k) of the patches.
        device: where to.

    Returns:
        (batch, channel, *size) of the items' type.
    """
    import torch

    boxes = [pose.find_box(size, item.shape[1:]) for item, pose in zip(items, poses, strict=True)]
    extent = np.max([high - low for low, high in boxes], axis=0)
    # Labels of cases in which not everything was labelled have a sign, others may have none.
    dtype = reduce(torch.promote_types, {item.dtype for item in items})
    room = torch.zeros((len(boxes), len(items[0]), *extent.tolist()), dtype=dtype, device=device)
    for item, (low, high), place in zip(items, boxes, room, strict=True):
        i, j, k = (slice(int(begin), int(end)) for begin, end in zip(low, high, strict=True))
        box = bring_to_device(item[:, i, j, k], device)
        place[:, : box.shape[1], : box.shape[2], : box.shape[3]].copy_(box)
    return sample_tensors(room, _place_patches(poses, boxes, size, extent, device))


def _place_patches(
    poses: Sequence[PatchPose], boxes: Sequence[Box], size: Size, extent: NDArray[np.int64], device: torch.device
) -> torch.Tensor:
    """Where the patches' voxels lie in rooms of one extent that hold their boxes: (batch, *size, 3), as torch wants it.

    The parameters are computed in double precision here; the device only adds and multiplies.
    """
    import torch
    from torch.nn.functional import interpolate

    scale = 2 / np.maximum(extent - 1, 1)
    # An axis of one voxel has no outside: whatever lies along it reads that voxel.
    is_flat = np.array([high - low == 1 for low, high in boxes])
    scales = np.where(is_flat, 0, scale)
    matrices = np.stack([pose.matrix for pose in poses]) * scales[:, :, None]
    starts = np.stack([pose.centre - low for pose, (low, _) in zip(poses, boxes, strict=True)]) * scales - 1
    # torch names the last axis first.
    columns = upload(matrices[:, ::-1].astype(np.float32), device)[:, None, None, None]
    grid = upload(starts[:, ::-1].astype(np.float32), device)[:, None, None, None]
    for axis, n in enumerate(size):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 1] = n
        offsets = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2).reshape(shape)
        grid = grid + offsets * columns[..., axis]
    bends = [pose.bend for pose in poses]
    if any(bend is not None for bend in bends):
        controls = np.stack([b for b in bends if b is not None]) * scales[:, :, None, None, None]
        field = upload(controls[:, ::-1].astype(np.float32), device)
        grid = grid + interpolate(field, size=size, mode="trilinear", align_corners=True).permute(0, 2, 3, 4, 1)
    return grid
