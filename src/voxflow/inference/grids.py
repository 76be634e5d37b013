"""Owns the ways between an image's own grid and the network's: the same box, axes turned, spacing changed.

Both grids have parallel axes, so that the way back needs one table of indices an axis; a voxel beyond the last
centre takes the nearest one, and no border is lost to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.volumes import Volume, resample, target_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


class WayBack:
    """Brings scores to a grid with parallel axes, linearly, as the parts of the network's grid become ready.

    Args:
        source: the network's grid.
        target: the grid that is filled.
        along: the axis of ``source`` along which the parts of a block follow each other.
        across: the axis of ``source`` that blocks divide.

    Raises:
        DataError: the grids are rotated against each other.
    """

    def __init__(self, source: Geometry, target: Geometry, along: int, across: int) -> None:
        self._order, positions = _tables(source, target)
        self._at = [np.clip(at, 0, n - 1) for at, n in zip(positions, source.size, strict=True)]
        self._size, self._along, self._across = source.size, along, across

    def block(self, block: slice) -> tuple[slice, Block]:
        """What a block of ``source`` is responsible for, and which voxels of ``source`` it needs for that."""
        at = self._at[self._across]
        last = self._size[self._across]
        upper = np.inf if block.stop == last else block.stop
        mine = np.flatnonzero((at >= block.start) & (at < upper))
        needed = slice(block.start, min(block.stop + 1, last))
        positions = list(self._at)
        positions[self._across] = at[mine] - needed.start
        # Parallel axes run one way, so that what a block fills lies side by side.
        filled = slice(int(mine[0]), int(mine[-1]) + 1) if len(mine) else slice(0, 0)
        return needed, Block(positions, self._order, (self._along, self._size[self._along]), (self._across, filled))


class Block:
    """One block on its way back; parts come in order along one axis."""

    def __init__(
        self,
        positions: list[NDArray[np.float64]],
        order: Sequence[int],
        along: tuple[int, int],
        mine: tuple[int, slice],
    ) -> None:
        self._at, self._order, self._mine = positions, order, mine
        self._along, self._length = along
        self._last: NDArray[np.float32] | None = None  # the plane in front of the next part

    def planes(
        self, part: slice, scores: NDArray[np.float32]
    ) -> Iterator[tuple[tuple[slice, ...], Iterator[NDArray[np.float32]]]]:
        """Take in the scores (class, i, j, k) of ``part`` of the axis, and yield what can be filled now.

        Yields:
            A box of the target, one plane thick, and its scores (i, j, k), one class after the other.
        """
        planes = dict(enumerate(np.moveaxis(scores, self._along + 1, 0), start=part.start))
        first = part.start
        if self._last is not None:
            first -= 1
            planes[first] = self._last
        at = self._at[self._along]
        for n in np.flatnonzero((at >= first) & ((at < part.stop - 1) | (part.stop == self._length))):
            low = int(at[n])
            near, far = planes[low], planes[min(low + 1, part.stop - 1)]
            filled = [slice(None)] * 3
            filled[self._mine[0]] = self._mine[1]
            filled[self._along] = slice(int(n), int(n) + 1)
            yield tuple(filled[axis] for axis in self._order), self._classes(near, far, float(at[n] - low))
        self._last = planes[part.stop - 1]

    def _classes(
        self, near: NDArray[np.float32], far: NDArray[np.float32], share: float
    ) -> Iterator[NDArray[np.float32]]:
        """Blend two planes (class, axis, axis), and bring them to the target's axes."""
        others = [axis for axis in range(3) if axis != self._along]
        for one, other in zip(near, far, strict=True):
            plane = one + (other - one) * np.float32(share)
            for axis, place in enumerate(others):
                plane = _linear(plane, axis, self._at[place])
            yield np.expand_dims(plane, self._along).transpose(self._order)


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
    shape = [1] * array.ndim
    shape[axis] = -1
    near, far = array.take(low, axis), array.take(high, axis)
    far -= near
    far *= (at - low).astype(np.float32).reshape(shape)
    near += far
    return near
