"""Interpolates planes of a network's scores on the processor, and takes the strongest class of each new voxel.

Where one class decides alone, its map is interpolated whole. Of several classes most voxels need no probabilities at
all: what is interpolated between eight voxels of one class is of that class.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.labels import (
    AT_A_TIME,
    combine_regions,
    first_label,
    label_type,
    logits_to_labels,
    single_value,
)
from voxflow.prediction.probabilities import apply_sigmoid, logits_to_probabilities
from voxflow.volumes import Taps, count_threads, resample_parallel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Box
    from voxflow.spec import ModelSpec

# Voxels of one class's map that are interpolated at a time.
MAP_VOXELS = 1 << 20
# Scores of several classes that are.
SCORES = 1 << 22
# New voxels between several classes that are computed at a time: their weights, or their probabilities, in the cache.
VOXELS_AT_A_TIME = 1 << 15
# What is held of one map at a time: what came in, what it becomes, and half of either on the way.
MAPS_HELD = 3


def count_restoring_bytes(source: Geometry, target: Geometry, spec: ModelSpec) -> int:
    """Count the bytes that the way back takes beside the logits and the mask.

    Args:
        source: the network's grid.
        target: the image's native grid.
        spec: of the model; its number of classes decides.
    """
    score = np.dtype(np.float32).itemsize
    size = source.size
    if is_decided_by_one_map(spec):
        return MAPS_HELD * score * min(MAP_VOXELS, max(math.prod(size), math.prod(target.size)))
    plane = spec.out_channels * math.prod(size) // max(size)
    # The logits of the plane in front, and the probabilities of that and the next ones.
    return score * (plane + plane + max(plane, min(SCORES, spec.out_channels * math.prod(size))))


def is_decided_by_one_map(spec: ModelSpec) -> bool:
    """Whether one map tells the label of every voxel."""
    return spec.out_channels == (2 if spec.activation == "softmax" else 1)


class OneMapPlanes:
    """The planes of the one map that decides, along an axis."""

    def __init__(self, spec: ModelSpec, along: int, *, of_logits: bool = False) -> None:
        self._value, self._of_logits = single_value(spec), of_logits
        self._along = along
        self._logits: NDArray[Any] = np.empty((spec.out_channels, *_size_without_planes(along)), dtype=np.float32)
        self._map: NDArray[np.float32] = np.empty(_size_without_planes(along), dtype=np.float32)

    @property
    def planes(self) -> int:
        """How many are held, up to the last one that was added."""
        return int(self._map.shape[self._along])

    def start(self, logits: NDArray[Any], filled: int) -> int:
        """Begin with logits (class, i, j, k), each of whose planes fills so many voxels.

        Returns:
            How many planes to take at a time.
        """
        self._logits = logits
        return max(1, MAP_VOXELS // max(1, filled, _count_plane_voxels(logits, self._along)))

    def add(self, part: slice) -> None:
        """Take in some planes of the logits; of those before, only the last is kept."""
        logits = self._logits[:, *_slice_planes(self._along, part)]
        front = min(1, self.planes)
        size = list(logits.shape[1:])
        n = size.pop(self._along)
        # Its planes lie one behind the other, whichever axis they follow.
        planes = np.moveaxis(np.empty((front + n, *size), dtype=np.float32), 0, self._along)
        if front:
            planes[_slice_planes(self._along, slice(0, 1))] = self._map[_slice_planes(self._along, slice(-1, None))]
        new = planes[_slice_planes(self._along, slice(front, None))]
        if len(logits) == 2:
            np.subtract(logits[1], logits[0], out=new, dtype=np.float32)
        else:
            new[:] = logits[0]
        if not self._of_logits:
            apply_sigmoid(new)
        self._map = planes

    def end(self) -> None:
        """Make do without the logits from here on."""
        self._logits = self._logits[:, :0]

    def labels(self, taps: Sequence[Taps]) -> NDArray[Any]:
        """Interpolate the planes in memory to the voxels that the taps reach, and threshold them at one half."""
        threshold = 0.0 if self._of_logits else 0.5
        is_inside = resample_parallel(self._map, taps, 0.0, count_threads()) > threshold
        if self._value > 255:
            return is_inside * np.uint16(self._value)
        labels: NDArray[np.uint8] = is_inside.view(np.uint8)
        labels *= np.uint8(self._value)
        return labels


class ManyClassPlanes:
    """The planes of several classes' logits; probabilities are made of those next to borders between classes."""

    def __init__(self, spec: ModelSpec, along: int, *, of_logits: bool = False) -> None:
        self._spec, self._along, self._of_logits = spec, along, of_logits
        # What is given and its labels; of these, what is held: the last plane in front of the new ones, these, and the
        # labels of both.
        self._logits = self._front = self._new = np.empty(
            (spec.out_channels, *_size_without_planes(along)), dtype=np.float32
        )
        self._all = self._labels = np.empty(_size_without_planes(along), dtype=label_type(spec))

    @property
    def planes(self) -> int:
        """See :class:`OneMapPlanes`."""
        return int(self._labels.shape[self._along])

    def start(self, logits: NDArray[Any], filled: int) -> int:
        """See :class:`OneMapPlanes`."""
        # All at once: the planes may follow the axis along which memory runs.
        self._logits, self._all = logits, logits_to_labels(logits, self._spec)
        return max(
            1,
            min(SCORES // max(1, len(logits) * _count_plane_voxels(logits, self._along)), MAP_VOXELS // max(1, filled)),
        )

    def add(self, part: slice) -> None:
        """See :class:`OneMapPlanes`."""
        last, these = _slice_planes(self._along, slice(-1, None)), _slice_planes(self._along, part)
        self._front, self._new = self._new[:, *last], self._logits[:, *these]
        labels = self._all[these]
        self._labels = np.concatenate([self._labels[last], labels], axis=self._along) if self.planes else labels

    def end(self) -> None:
        """See :class:`OneMapPlanes`."""
        self._logits = self._new = self._new[:, *_slice_planes(self._along, slice(-1, None))].copy()

    def labels(self, taps: Sequence[Taps]) -> NDArray[Any]:
        """See :class:`OneMapPlanes`."""
        cells = np.ix_(*(tap.low for tap in taps))
        mixed = _find_mixed_cells(self._labels)
        labels = np.ascontiguousarray(self._labels[cells])
        mixed_voxels = np.nonzero(mixed[cells])
        if not len(mixed_voxels[0]):
            return labels
        numbers, probabilities = self._compute_border_probabilities(_mark_corners(mixed, taps))
        between = _InterpolationWeights(numbers, len(probabilities), taps)
        step = max(1, min(VOXELS_AT_A_TIME, 4 * AT_A_TIME // self._spec.out_channels))
        for first in range(0, len(mixed_voxels[0]), step):
            i, j, k = (indices[first : first + step] for indices in mixed_voxels)
            labels[i, j, k] = self._strongest(between.weights(i, j, k) @ probabilities)
        return labels

    def _compute_border_probabilities(self, near: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The probabilities (number, class) of the voxels named, and what number each has (i, j, k)."""
        # One more along each axis, so that a neighbour of no weight has a number as well.
        numbers = np.zeros([n + 1 for n in near.shape], dtype=np.int32)
        probabilities = np.empty((np.count_nonzero(near), self._spec.out_channels), dtype=np.float32)
        step = max(1, AT_A_TIME // self._spec.out_channels)
        begin, front = 0, self._front.shape[self._along + 1]
        for logits, part in ((self._front, slice(0, front)), (self._new, slice(front, None))):
            planes = _slice_planes(self._along, part)
            i, j, k = np.nonzero(near[planes])
            numbers[planes][i, j, k] = np.arange(begin, begin + len(i))
            for first in range(0, len(i), step):
                piece = slice(first, first + step)
                scores = logits[:, i[piece], j[piece], k[piece]]
                if not self._of_logits:
                    scores = logits_to_probabilities(scores, self._spec)
                probabilities[begin + first : begin + first + scores.shape[1]] = scores.T
            begin += len(i)
        return numbers, probabilities

    def _strongest(self, probabilities: NDArray[np.float32]) -> NDArray[Any]:
        """The label values of probabilities (voxel, class)."""
        threshold = 0.0 if self._of_logits else 0.5
        if self._spec.regions:
            return np.asarray(combine_regions(threshold < probabilities.T, self._spec))
        labels = probabilities.argmax(axis=1) + first_label(self._spec)
        if self._spec.activation == "sigmoid":
            labels[~(probabilities.max(axis=1) > threshold)] = 0
        return np.asarray(labels, dtype=label_type(self._spec))


class _InterpolationWeights:
    """What the new voxels take of the old ones that are named.

    Args:
        numbers: of the old voxels (i, j, k), one more along each axis than there are.
        count: how many numbers there are.
        taps: of each axis.
    """

    def __init__(self, numbers: NDArray[np.int32], count: int, taps: Sequence[Taps]) -> None:
        steps = (numbers.shape[1] * numbers.shape[2], numbers.shape[2], 1)
        self._numbers, self._count = numbers.reshape(-1), count
        self._begin = [(tap.low * step).astype(np.int32) for tap, step in zip(taps, steps, strict=True)]
        self._corner = np.array([np.dot(ends, steps) for ends in product((0, 1), repeat=3)], dtype=np.int32)
        self._shares = [np.stack([1 - tap.weight, tap.weight], axis=1).astype(np.float32) for tap in taps]

    def weights(self, i: NDArray[np.intp], j: NDArray[np.intp], k: NDArray[np.intp]) -> csr_array:
        """Compute the linear weights (new voxel, old voxel) of some new voxels.

        Args:
            i: their numbers along the first axis of the taps.
            j: along the second.
            k: along the third.
        """
        from scipy.sparse import csr_array

        begin = self._begin[0][i] + self._begin[1][j] + self._begin[2][k]
        of_i, of_j, of_k = (shares[n] for shares, n in zip(self._shares, (i, j, k), strict=True))
        shares = of_i[:, :, None, None] * of_j[:, None, :, None] * of_k[:, None, None, :]
        corners = self._numbers[begin[:, None] + self._corner]
        ends = np.arange(0, corners.size + 1, len(self._corner), dtype=np.int32)
        return csr_array((shares.reshape(-1), corners.reshape(-1), ends), shape=(len(begin), self._count))


def _slice_planes(axis: int, planes: slice) -> Box:
    """Some planes of an array (i, j, k) along an axis."""
    i, j, k = (planes if n == axis else slice(None) for n in range(3))
    return i, j, k


def _size_without_planes(axis: int) -> list[int]:
    """The size of an array without planes along an axis."""
    return [int(n != axis) for n in range(3)]


def _count_plane_voxels(logits: NDArray[Any], axis: int) -> int:
    """Voxels of one plane of logits (class, i, j, k) along an axis."""
    return math.prod(n for number, n in enumerate(logits.shape[1:]) if number != axis)


def _find_mixed_cells(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the eight voxels from each one (i, j, k) on, to the next along every axis, differ."""
    least, most = labels, labels
    for axis in range(3):
        this, following = _slice_neighbours(axis)
        lower, upper = least.copy(), most.copy()
        np.minimum(least[this], least[following], out=lower[this])
        np.maximum(most[this], most[following], out=upper[this])
        least, most = lower, upper
    differs: NDArray[np.bool_] = least != most
    return differs


def _mark_corners(mixed: NDArray[np.bool_], taps: Sequence[Taps]) -> NDArray[np.bool_]:
    """The voxels that are corners of mixed cells which the taps read."""
    named = mixed
    for axis, tap in enumerate(taps):
        read = np.zeros(named.shape[axis], dtype=bool)
        read[tap.low] = True
        shape = [1, 1, 1]
        shape[axis] = -1
        named = named & read.reshape(shape)
    for axis in range(3):
        this, following = _slice_neighbours(axis)
        wider = named.copy()
        np.logical_or(named[following], named[this], out=wider[following])
        named = wider
    return named


def _slice_neighbours(axis: int) -> tuple[Box, Box]:
    """What has a neighbour along an axis, and these."""
    return _slice_planes(axis, slice(None, -1)), _slice_planes(axis, slice(1, None))
