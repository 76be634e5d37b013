"""Owns how a volume passes through a network: whole where it fits, else in blended windows.

Blending is MONAI's: a Gaussian of an eighth of the window, or every window alike; windows are clipped to the image.
The accumulator holds one slab as thick as a window, however long the image is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.inference.engines import Engine

Plan = Literal["auto", "whole", "windows"]
Blend = Literal["gaussian", "constant"]
Size = tuple[int, int, int]

SIGMA_SHARE = 0.125
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class WindowPlan:
    """How one image is cut.

    Attributes:
        padded: image size after padding, voxels along (i, j, k).
        before: voxels of padding in front of each axis.
        window: size of one window; equal to ``padded`` for a single one.
        starts: for each axis, the first voxel of each window.
        blend: how overlapping windows are weighted: by a Gaussian around each one's centre, or alike.
    """

    padded: Size
    before: Size
    window: Size
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    blend: Blend = "gaussian"

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(len(starts) for starts in self.starts)


def plan_windows(
    size: Sequence[int],
    engine: Engine,
    plan: Plan = "auto",
    *,
    memory_mb: int = 4096,
    bytes_per_voxel: int = 384,
    blend: Blend = "gaussian",
) -> WindowPlan:
    """Choose between the whole image and windows.

    Args:
        size: voxels of the image along (i, j, k), on the network's grid.
        engine: gives divisor, training window, overlap, and the sizes that the file accepts.
        plan: "auto" takes the whole image when its activations fit ``memory_mb`` and the network is local; one
            that averages over its window (instance norm) is shown windows of the size that it was trained on.
        memory_mb: bound on the network's activations.
        bytes_per_voxel: what the network's activations need for one voxel of input.
        blend: how overlapping windows are weighted.
    """
    spec = engine.spec
    window = _fitting(spec.window or tuple(size), engine)
    whole = _fitting([max(have, least) for have, least in zip(size, window, strict=True)], engine)
    covers = all(have >= need for have, need in zip(whole, size, strict=True))
    fits = math.prod(whole) * bytes_per_voxel <= memory_mb * 2**20
    if covers and (plan == "whole" or (plan == "auto" and engine.is_local and fits)):
        window = whole
    padded = _size([max(have, least) for have, least in zip(size, window, strict=True)])
    before = _size([(new - old) // 2 for new, old in zip(padded, size, strict=True)])
    i, j, k = (_starts(n, w, spec.overlap) for n, w in zip(padded, window, strict=True))
    return WindowPlan(padded, before, window, (i, j, k), blend)


def slabs(engine: Engine, image: NDArray[np.float32], plan: WindowPlan) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Run the network over an image.

    Args:
        engine: the network.
        image: (channel, i, j, k), already preprocessed.
        plan: from :func:`plan_windows`, for this size.

    Yields:
        A slice of axis i and its logits (class, part of i, j, k); the slices cover axis i in order.
    """
    size = image.shape[1:]
    padded = _pad(image, plan)
    crop = tuple(slice(before, before + n) for before, n in zip(plan.before, size, strict=True))
    for part, logits in _padded_slabs(engine, padded, plan):
        first, last = max(part.start, crop[0].start), min(part.stop, crop[0].stop)
        if first < last:
            inside = logits[:, first - part.start : last - part.start, crop[1], crop[2]]
            yield slice(first - crop[0].start, last - crop[0].start), inside


def importance(window: Sequence[int]) -> NDArray[np.float32]:
    """Weight of each voxel of a window (i, j, k): a Gaussian around its centre, at least 0.001."""
    weight = np.ones((1,) * len(window))
    for axis, n in enumerate(window):
        away = np.arange(n) - (n - 1) / 2
        shape = [1] * len(window)
        shape[axis] = n
        weight = weight * np.exp(-0.5 * (away / (SIGMA_SHARE * n)) ** 2).reshape(shape)
    return np.maximum(weight, LEAST_WEIGHT).astype(np.float32)


def _padded_slabs(
    engine: Engine, image: NDArray[np.float32], plan: WindowPlan
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    if plan.count == 1:
        yield slice(0, plan.padded[0]), engine.run(image[None])[0]
        return
    weight = importance(plan.window) if plan.blend == "gaussian" else np.ones(plan.window, dtype=np.float32)
    thick = plan.window[0]
    total = np.zeros((engine.spec.out_channels, thick, *plan.padded[1:]), dtype=np.float32)
    weights = np.zeros((thick, *plan.padded[1:]), dtype=np.float32)
    ends = [*plan.starts[0][1:], plan.padded[0]]
    for start, end in zip(plan.starts[0], ends, strict=True):
        for j, k in product(plan.starts[1], plan.starts[2]):
            here = (slice(None), slice(j, j + plan.window[1]), slice(k, k + plan.window[2]))
            logits = engine.run(image[:, start : start + thick, here[1], here[2]][None])[0]
            total[:, *here] += logits * weight
            weights[here] += weight
        # No later window reaches in front of `end`: that part is final, the rest moves to the front.
        done = end - start
        yield slice(start, end), total[:, :done] / weights[:done]
        for array, axis in ((total, 1), (weights, 0)):
            _shift(array, axis, done)


def _shift(array: NDArray[np.float32], axis: int, by: int) -> None:
    """Move the content ``by`` voxels to the front of an axis and fill the rest with 0."""
    view = np.moveaxis(array, axis, 0)
    kept = len(view) - by
    view[:kept] = view[by:].copy()
    view[kept:] = 0


def _fitting(size: Sequence[int], engine: Engine) -> Size:
    """The next size that the network and the model file accept."""
    divisor = engine.spec.divisor
    sizes = [-(-n // divisor) * divisor for n in size]
    if engine.smallest is not None:
        sizes = [max(n, least) for n, least in zip(sizes, engine.smallest, strict=True)]
    if engine.largest is not None:
        sizes = [min(n, most) for n, most in zip(sizes, engine.largest, strict=True)]
    return _size(sizes)


def _starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the windows along one axis; the last window ends with the image."""
    if window >= size:
        return (0,)
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil((size - window) / step) + 1
    return tuple(min(n * step, size - window) for n in range(count))


def _pad(image: NDArray[np.float32], plan: WindowPlan) -> NDArray[np.float32]:
    """Pad with 0 on both sides, as the training transforms pad."""
    sizes = zip(plan.padded, plan.before, image.shape[1:], strict=True)
    widths = [(before, new - before - old) for new, before, old in sizes]
    return np.pad(image, [(0, 0), *widths]) if any(map(any, widths)) else image


def _size(values: Sequence[int]) -> Size:
    i, j, k = (int(value) for value in values)
    return i, j, k
