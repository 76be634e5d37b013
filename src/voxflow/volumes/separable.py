"""Linear interpolation between two grids whose axes are parallel: one axis after the other, plane by plane.

A grid that is only scaled, shifted, flipped or permuted needs two taps (old voxels and their weights) an axis, in place
of eight a voxel. The plan:

1. :func:`compute_parallel_taps` finds which new axis runs along which old one, and the two old voxels on either side of
   each new one; or says that the grids are turned against each other, so that SimpleITK must do it.
2. :func:`resample_parallel` goes through the new grid along the axis that is slowest in memory. Each old plane is
   resampled within itself once, and then blended with its neighbour, so that nothing larger than a few planes is held
   beside input and output. Pieces of the slow axis go to threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

# Axes count as parallel if no voxel of the new grid is farther than this from where they would put it, in voxels.
PARALLEL_VOXELS = 1e-5
# A centre on the outer face of the image is inside, however it was rounded.
FACE_VOXELS = 1e-6


@dataclass(frozen=True)
class Taps:
    """Where the new voxels along one axis of the old grid take their values.

    Attributes:
        low, high: (new voxels,), indices of the old voxels on either side; the same one where only one counts.
        weight: (new voxels,), of ``high``, 0 to 1; ``low`` has the rest.
        first, last: the new voxels ``first <= n < last`` lie inside of the old grid.
        axis: which axis of the new grid runs along this one.
    """

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.float64]
    first: int
    last: int
    axis: int

    @property
    def count(self) -> int:
        """New voxels along the axis, outside ones too."""
        return len(self.low)


def compute_parallel_taps(source: Geometry, target: Geometry) -> list[Taps] | None:
    """Find the taps of each axis of ``source`` for the voxels of ``target``.

    As in ITK, the image reaches to the outer faces of its voxels: within the outer half voxel the nearest one counts.

    Returns:
        Taps of the old axes (i, j, k); None where the grids are turned against each other.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> old = Geometry.from_parts((3, 1, 1), (2, 1, 1))
        >>> along_i, _, _ = compute_parallel_taps(old, Geometry.from_parts((5, 1, 1), (1, 1, 1)))
        >>> along_i.low.tolist(), along_i.high.tolist(), along_i.weight.tolist()
        ([0, 0, 1, 1, 2], [0, 1, 1, 2, 2], [0.0, 0.5, 0.0, 0.5, 0.0])
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    scale, offset = matrix[:3, :3], matrix[:3, 3]
    axes = np.abs(scale).argmax(axis=1)
    if len(set(axes.tolist())) < 3:
        return None
    off_axis = np.abs(scale)
    off_axis[np.arange(3), axes] = 0
    if (off_axis @ np.array(target.size)).max() > PARALLEL_VOXELS:
        return None
    return [
        _compute_axis_taps(offset[n] + scale[n, axis] * np.arange(target.size[axis]), source.size[n], int(axis))
        for n, axis in enumerate(axes)
    ]


def resample_parallel(array: NDArray[Any], taps: Sequence[Taps], fill: float, threads: int = 1) -> NDArray[Any]:
    """Interpolate linearly, onto the grid that the taps were made for.

    Args:
        array: voxels (i, j, k); integers of up to 16 bits and float32 are computed in float32, others in float64.
        taps: of each of its axes.
        fill: the value outside of the image.
        threads: how many planes to work on at a time.

    Returns:
        Voxels of the new grid, of the same type; whole numbers are rounded, and cut at the type's bounds.
    """
    # Along memory, whatever the axes are called: planes are then whole pieces of it.
    order = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    slow, *within = (taps[axis] for axis in order)
    resampled = np.empty([taps[axis].count for axis in order], dtype=array.dtype)
    planes = array.transpose(order)
    # One piece of the slow axis for each thread.
    bounds = np.linspace(0, slow.count, min(threads, slow.count) + 1).astype(int).tolist()
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        list(
            pool.map(
                lambda piece: _fill_planes(resampled, _PlaneResampler(planes, within), slow, fill, piece),
                pairwise(bounds),
            )
        )
    new_axes = [taps[axis].axis for axis in order]
    return resampled.transpose([new_axes.index(axis) for axis in range(3)])


def _compute_axis_taps(positions: NDArray[np.float64], size: int, axis: int) -> Taps:
    inside = np.flatnonzero((positions >= -0.5 - FACE_VOXELS) & (positions <= size - 0.5 + FACE_VOXELS))
    first, last = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
    clamped = np.clip(positions, 0, size - 1)
    low = np.floor(clamped).astype(np.intp)
    weight = clamped - low
    # A neighbour of no weight is left out, so that it may be anything, and need not be there.
    high = np.where(weight > 0, np.minimum(low + 1, size - 1), low)
    return Taps(low, high, weight, first, last, axis)


def _fill_planes(out: NDArray[Any], planes: _PlaneResampler, slow: Taps, fill: float, piece: tuple[int, int]) -> None:
    """Fill the planes of one piece of the output; each blends the two old planes that it lies between."""
    rows, columns = planes.inside
    mixed = planes.create_plane()
    for n in range(*piece):
        if not slow.first <= n < slow.last:
            out[n] = fill
            continue
        low, high = planes.resample_plane(int(slow.low[n])), planes.resample_plane(int(slow.high[n]))
        np.subtract(high, low, out=mixed)
        np.multiply(mixed, mixed.dtype.type(slow.weight[n]), out=mixed)
        np.add(mixed, low, out=mixed)
        if mixed[rows, columns].size < out[n].size:
            out[n] = fill
        _store_rounded(mixed[rows, columns], out[n, rows, columns])


def _store_rounded(values: NDArray[Any], out: NDArray[Any]) -> None:
    if out.dtype.kind in "iu":
        np.rint(values, out=values)
        if out.dtype.itemsize > 2:
            bounds = np.iinfo(out.dtype)
            np.clip(values, bounds.min, bounds.max, out=values)
    np.copyto(out, values, casting="unsafe")


class _PlaneResampler:
    """Resamples old planes within themselves; keeps the last two, since the next new plane needs them again."""

    def __init__(self, planes: NDArray[Any], within: Sequence[Taps]) -> None:
        exact = planes.dtype.itemsize <= 2 or planes.dtype == np.float32
        self._type = np.dtype(np.float32 if exact else np.float64)
        self._planes = planes
        # The axis that shrinks most goes first, so that the second has less to do.
        sizes = planes.shape[1:]
        self._axes = sorted((0, 1), key=lambda axis: within[axis].count / sizes[axis])
        self._taps = within
        self._kept: dict[int, NDArray[Any]] = {}
        self._whole = np.empty(sizes, dtype=self._type)
        between = list(sizes)
        between[self._axes[0]] = within[self._axes[0]].count
        # Kept from plane to plane: a new array of this size is cleared by the kernel each time.
        self._between = (np.empty(between, dtype=self._type), np.empty(between, dtype=self._type))
        self._spare = [self.create_plane() for _ in range(3)]

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of the new grid that lie inside of the old one."""
        rows, columns = self._taps
        return slice(rows.first, rows.last), slice(columns.first, columns.last)

    def create_plane(self) -> NDArray[Any]:
        """Create an empty plane of the new grid's rows and columns."""
        return np.empty([taps.count for taps in self._taps], dtype=self._type)

    def resample_plane(self, number: int) -> NDArray[Any]:
        """Resample an old plane onto the new grid's rows and columns.

        Args:
            number: of the old plane, from 0.

        Returns:
            The plane; valid until two others were asked for, since their buffers are used again.
        """
        if number not in self._kept:
            if len(self._kept) == 2:
                self._spare.append(self._kept.pop(next(iter(self._kept))))
            target = self._spare.pop()
            np.copyto(self._whole, self._planes[number], casting="unsafe")
            first, second = self._axes
            _blend(self._whole, self._taps[first], first, *self._between)
            _blend(self._between[0], self._taps[second], second, target, self._spare[0])
            self._kept[number] = target
        # Asked for last, given back last.
        self._kept[number] = self._kept.pop(number)
        return self._kept[number]


def _blend(values: NDArray[Any], taps: Taps, axis: int, out: NDArray[Any], scratch: NDArray[Any]) -> None:
    """Interpolate along one axis of a plane."""
    # Without a mode that can't fail, numpy writes to a copy of ``out`` first.
    np.take(values, taps.low, axis=axis, out=out, mode="clip")
    np.take(values, taps.high, axis=axis, out=scratch, mode="clip")
    weight = taps.weight.astype(values.dtype)
    np.subtract(scratch, out, out=scratch)
    np.multiply(scratch, weight[:, None] if axis == 0 else weight, out=scratch)
    np.add(out, scratch, out=out)
