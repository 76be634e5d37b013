"""Brings a network's probabilities back to the image's native grid, and takes the strongest class there.

Probabilities are brought back linearly, a few planes at a time, as the parts of the network's grid become ready. How
planes are interpolated stands in :mod:`voxflow.prediction.planes`, and for tensors in
:mod:`voxflow.prediction.tensors`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from voxflow.prediction.grids import CENTRE, make_taps, map_positions
from voxflow.prediction.nnunet import list_positions
from voxflow.prediction.planes import ManyClassPlanes, OneMapPlanes, is_decided_by_one_map
from voxflow.prediction.tensors import TensorPlanes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Box, Values
    from voxflow.spec import ModelSpec


class NativeGridRestorer:
    """Brings scores to a grid with parallel axes, linearly, as the parts of the network's grid become ready.

    Args:
        source: the network's grid.
        target: the grid that is filled.
        spec: what the scores mean.
        along: the axis of ``source`` along which the parts of a block follow each other.
        across: the axis of ``source`` that blocks divide.
        on_tensors: whether scores are torch tensors, and labels are to be.
        of_logits: whether logits are brought back in the place of probabilities; those of an adopted nnU-Net are, to
            the part of the image that it was shown.

    Raises:
        DataError: the grids are rotated against each other.
    """

    def __init__(
        self,
        source: Geometry,
        target: Geometry,
        spec: ModelSpec,
        along: int,
        across: int,
        *,
        on_tensors: bool = False,
        of_logits: bool = False,
    ) -> None:
        self._order, positions = map_positions(source, target)
        if spec.nnunet:
            self._order, positions = (0, 1, 2), list_positions(source, target, spec)
        self._of_logits = of_logits or spec.nnunet is not None
        clipped = [np.clip(place, 0, n - 1) for place, n in zip(positions, source.size, strict=True)]
        self._positions = [np.where(abs(place - np.rint(place)) < CENTRE, np.rint(place), place) for place in clipped]
        self._size, self._spec, self._along, self._across = source.size, spec, along, across
        self._on_tensors = on_tensors

    @property
    def is_exact(self) -> bool:
        """Whether every voxel of the target lies on one of the source, so that nothing is interpolated."""
        return all(np.array_equal(place, np.rint(place)) for place in self._positions)

    def block(self, block: slice) -> tuple[slice, BlockRestorer]:
        """Begin a block of the network's grid.

        Args:
            block: its voxels along the axis ``across``.

        Returns:
            The voxels along that axis whose logits the block needs, one more than its own where another block
            follows; and what brings them back.
        """
        across_positions = self._positions[self._across]
        length = self._size[self._across]
        upper = np.inf if block.stop == length else block.stop
        covered = np.flatnonzero((across_positions >= block.start) & (across_positions < upper))
        needed = slice(block.start, min(block.stop + 1, length))
        positions = list(self._positions)
        positions[self._across] = across_positions[covered] - needed.start
        # Parallel axes run one way, so that what a block fills lies side by side.
        filled = [slice(0, len(place)) for place in self._positions]
        filled[self._across] = slice(int(covered[0]), int(covered[-1]) + 1) if len(covered) else slice(0, 0)
        along = (self._along, self._size[self._along])
        return needed, BlockRestorer(
            positions,
            filled,
            self._order,
            along,
            self._spec,
            on_tensors=self._on_tensors,
            of_logits=self._of_logits,
        )


class BlockRestorer:
    """One block on its way back; parts come in order along one axis."""

    def __init__(
        self,
        positions: Sequence[NDArray[np.float64]],
        filled: Sequence[slice],
        order: Sequence[int],
        along: tuple[int, int],
        spec: ModelSpec,
        *,
        on_tensors: bool = False,
        of_logits: bool = False,
    ) -> None:
        self._positions, self._filled, self._order = positions, filled, order
        self._along, self._length = along
        self._scores: OneMapPlanes | ManyClassPlanes | TensorPlanes = (
            OneMapPlanes if is_decided_by_one_map(spec) else ManyClassPlanes
        )(spec, self._along, of_logits=of_logits)
        if on_tensors:
            is_one_map = is_decided_by_one_map(spec)
            self._scores = TensorPlanes(spec, self._along, is_one_map=is_one_map, of_logits=of_logits)

    def labels(self, part: slice, logits: Values) -> Iterator[tuple[Box, Values]]:
        """Take in the logits (class, i, j, k) of ``part`` of the axis, and yield what can be filled now.

        Yields:
            A box of the target and its label values (i, j, k).
        """
        places = self._positions[self._along]
        filled = math.prod(len(positions) for axis, positions in enumerate(self._positions) if axis != self._along)
        step = self._scores.start(logits, filled)
        for first in range(part.start, part.stop, step):
            stop = min(first + step, part.stop)
            self._scores.add(slice(first - part.start, stop - part.start))
            begin = stop - self._scores.planes
            voxels = np.flatnonzero((places >= begin) & ((places < stop - 1) | (stop == self._length)))
            read_positions, box = list(self._positions), list(self._filled)
            read_positions[self._along] = places[voxels] - begin
            if not all(len(positions) for positions in read_positions):
                continue
            box[self._along] = slice(int(voxels[0]), int(voxels[-1]) + 1)
            labels = self._scores.labels([make_taps(positions, axis) for axis, positions in enumerate(read_positions)])
            i, j, k = (box[axis] for axis in self._order)
            turned = (
                labels.transpose(self._order) if isinstance(labels, np.ndarray) else labels.permute(list(self._order))
            )
            yield (i, j, k), turned
        self._scores.end()
