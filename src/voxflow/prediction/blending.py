"""Runs a network over an image window by window, and blends overlapping windows into logits.

An image is a NumPy array, or a torch tensor of the device that the network computes on; then the windows, the sums and
the logits are tensors there, too.

Blending is MONAI's: a Gaussian of an eighth of the window, or every window alike; windows are clipped to the image.
The plan of one image:

1. Windows are visited slab by slab along the image's longest way, so that the sums hold one slab as thick as a
   window, however long the image is.
2. What no later window reaches is final: it is divided by the sum of its weights and handed on.
3. The rest of the slab moves to the front, and the next windows are added to it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction.nnunet import compute_nnunet_importance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.prediction.windows import WindowPlan
    from voxflow.spec import ModelSpec

# An array of NumPy's, or a torch tensor of any device.
Values = Any
Box = tuple[slice, slice, slice]

SIGMA_SHARE = 0.125
LEAST_WEIGHT = 1e-3
# The logit of what is taken for background unseen, and less it of every other class.
CERTAIN = 10.0


def iterate_slabs(
    engine: Engine, image: Values, plan: WindowPlan, block: slice | None = None
) -> Iterator[tuple[Box, Values]]:
    """Run the network over an image.

    Args:
        engine: the network.
        image: (channel, i, j, k), already preprocessed; an array or a tensor.
        plan: from :func:`voxflow.prediction.windows.plan_windows`, for this size.
        block: of the axis ``plan.across``, the voxels that are wanted; None: every block of the plan in turn.

    Yields:
        A box of the image and its logits (class, part of i, j, k), of the image's kind, float16 where the plan says so;
        valid until the next are asked for. Within a block the boxes cover the axis ``plan.along`` in order.
    """
    if block is None and plan.blocks > 1:
        for part in plan.block_slices():
            yield from iterate_slabs(engine, image, plan, part)
        return
    low, high = [0, 0, 0], list(plan.size)
    if block is not None:
        low[plan.across], high[plan.across] = block.start, block.stop
    if plan.count == 1:
        logits = run_engine(engine, extract_window(image, [-n for n in plan.before], plan)[None])[0]
        inside = _make_box([a + n for a, n in zip(low, plan.before, strict=True)],
                      [b + n for b, n in zip(high, plan.before, strict=True)])  # fmt: skip
        yield _make_box(low, high), logits[:, *inside]
    else:
        yield from _blend_windows(engine, image, plan, low, high)


def compute_importance(window: Sequence[int]) -> NDArray[np.float32]:
    """Compute how much each voxel of a window counts where windows overlap.

    Args:
        window: voxels along each axis.

    Returns:
        float32 of the window's shape: a Gaussian around the centre, whose standard deviation is an eighth of the side,
        and at least 0.001, so that no voxel is divided by nothing.

    Example:
        >>> compute_importance((5,)).round(3)
        array([0.006, 0.278, 1.   , 0.278, 0.006], dtype=float32)
    """
    weight = np.ones((1,) * len(window))
    for axis, n in enumerate(window):
        away = np.arange(n) - (n - 1) / 2
        shape = [1] * len(window)
        shape[axis] = n
        weight = weight * np.exp(-0.5 * (away / (SIGMA_SHARE * n)) ** 2).reshape(shape)
    return np.maximum(weight, LEAST_WEIGHT).astype(np.float32)


def _blend_windows(
    engine: Engine, image: Values, plan: WindowPlan, low: list[int], high: list[int]
) -> Iterator[tuple[Box, Values]]:
    along = plan.along
    sums = _SlabSums(plan, low, high, engine.spec, image)
    across_axes = [axis for axis in range(3) if axis != along]
    begins = [max(start - plan.before[along], 0) for start in plan.starts[along]]
    for start, begin, end in zip(plan.starts[along], begins, [*begins[1:], plan.size[along]], strict=True):
        corners = []
        for pair in product(*(plan.starts[axis] for axis in across_axes)):
            corner = list(pair)
            corner.insert(along, start)
            corner = [first - before for first, before in zip(corner, plan.before, strict=True)]
            if all(c < b and c + w > a for c, w, a, b in zip(corner, plan.window, low, high, strict=True)):
                corners.append(corner)
        _run_windows(sums, begin, engine, image, plan=plan, corners=corners)
        # No later window reaches in front of `end`: that part is final, the rest moves to the front.
        yield sums.finish(begin, end)
        sums.shift(end - begin)


class _SlabSums:
    """The weighted sums of a slab's logits, for the part of the image between two corners."""

    def __init__(
        self, plan: WindowPlan, low: Sequence[int], high: Sequence[int], spec: ModelSpec, image: Values
    ) -> None:
        self._low, self._high, self._along, self._window = list(low), list(high), plan.along, plan.window
        shape = [b - a for a, b in zip(low, high, strict=True)]
        shape[plan.along] = min(plan.window[plan.along], shape[plan.along])
        compute = compute_nnunet_importance if spec.nnunet else compute_importance
        classes, gaussian = spec.out_channels, plan.blend == "gaussian"
        weight = compute(plan.window) if gaussian else np.ones(plan.window, dtype=np.float32)
        if isinstance(image, np.ndarray):
            self._total: Values = np.zeros((classes, *shape), dtype=np.float16 if plan.half else np.float32)
            self._weights: Values = np.zeros(shape, dtype=np.float32)
            self._weight: Values = weight
        else:
            import torch

            self._total = image.new_zeros((classes, *shape), dtype=torch.float16 if plan.half else torch.float32)
            self._weights = image.new_zeros(shape, dtype=torch.float32)
            self._weight = torch.from_numpy(weight).to(image.device)

    def add(self, logits: Values, corner: Sequence[int], begin: int) -> None:
        """Take in one window, whose first voxel is ``corner``, where the slab's first plane is ``begin``."""
        slab_start = [begin if axis == self._along else n for axis, n in enumerate(self._low)]
        first_voxel = [max(pair) for pair in zip(corner, slab_start, strict=True)]
        last_voxel = [min(c + w, n) for c, w, n in zip(corner, self._window, self._high, strict=True)]
        inside = _make_box(_subtract(first_voxel, corner), _subtract(last_voxel, corner))
        target = _make_box(_subtract(first_voxel, slab_start), _subtract(last_voxel, slab_start))
        weight = self._weight[inside]
        self._weights[target] += weight
        # One class at a time: the product of all would be as large as the window's logits.
        for total, scores in zip(self._total, logits, strict=True):
            total[target] += scores[inside] * weight

    def finish(self, begin: int, end: int) -> tuple[Box, Values]:
        """The box from plane ``begin`` to ``end`` and its logits; they are final."""
        planes = self._planes(slice(0, end - begin))
        weights = self._weights[planes]
        for total in self._total:
            total[planes] /= weights
        low, high = list(self._low), list(self._high)
        low[self._along], high[self._along] = begin, end
        return _make_box(low, high), self._total[:, *planes]

    def shift(self, count: int) -> None:
        """Move what is behind the first ``count`` planes to the front, and fill the rest with 0."""
        for part in (*self._total, self._weights):
            remaining = part.shape[self._along] - count
            behind = part[self._planes(slice(count, None))]
            # The places overlap.
            part[self._planes(slice(0, remaining))] = (
                behind.copy() if isinstance(behind, np.ndarray) else behind.clone()
            )
            part[self._planes(slice(remaining, None))] = 0

    def _planes(self, planes: slice) -> Box:
        i, j, k = (planes if axis == self._along else slice(None) for axis in range(3))
        return i, j, k


def _run_windows(
    sums: _SlabSums,
    begin: int,
    engine: Engine,
    image: Values,
    *,
    plan: WindowPlan,
    corners: Sequence[list[int]],
) -> None:
    """Show the network the windows at some corners, so many at a time as the plan says, and take in its logits."""
    shown_corners = []
    for corner in corners:
        window = extract_window(image, corner, plan) if plan.skip_empty else None
        if window is not None and window.min() == window.max():
            sums.add(_make_background_logits(engine.spec, window), corner, begin)
        else:
            shown_corners.append(corner)
    for first in range(0, len(shown_corners), plan.batch):
        batch = shown_corners[first : first + plan.batch]
        windows = [extract_window(image, corner, plan) for corner in batch]
        # A copy of one window alone would be memory for nothing.
        logits = run_engine(engine, _stack(windows) if len(windows) > 1 else windows[0][None])
        for number, corner in enumerate(batch):
            sums.add(logits[number], corner, begin)
        del logits  # before the next ones are made


def run_engine(engine: Engine, batch: Values) -> Values:
    """Show a network a batch, an array or a tensor; its logits are of the same kind."""
    return engine.run(batch) if isinstance(batch, np.ndarray) else engine.run_tensor(batch)


def _stack(windows: Sequence[Values]) -> Values:
    if isinstance(windows[0], np.ndarray):
        return np.stack(windows)
    import torch

    return torch.stack(list(windows))


def _make_background_logits(spec: ModelSpec, window: Values) -> Values:
    """Logits of a window that is taken for background; takes no memory."""
    certain = np.full((spec.out_channels, 1, 1, 1), -CERTAIN, dtype=np.float32)
    if spec.activation == "softmax" or spec.class_names[0] == "background":
        certain[0] = CERTAIN
    size = (spec.out_channels, *window.shape[1:])
    if isinstance(window, np.ndarray):
        return np.broadcast_to(certain, size)
    return window.new_tensor(certain.tolist()).expand(size)


def extract_window(image: Values, corner: Sequence[int], plan: WindowPlan) -> Values:
    """Cut one window out of an image; beyond the borders it is 0, as in training, or what the plan says.

    Args:
        image: (channel, i, j, k), an array or a tensor.
        corner: the window's first voxel (i, j, k), counted from 0; negative where the image was padded in front.
        plan: the size of the windows, and of the image.

    Returns:
        (channel, i, j, k) of the window's size; a view of the image where the window lies inside.
    """
    high = [c + w for c, w in zip(corner, plan.window, strict=True)]
    inside = _make_box([max(c, 0) for c in corner], [min(b, n) for b, n in zip(high, plan.size, strict=True)])
    part = image[:, *inside]
    if tuple(part.shape[1:]) == plan.window:
        return part
    if plan.padding == "replicate":
        return _replicate(part, [max(-c, 0) for c in corner], plan.window)
    size = (len(image), *plan.window)
    window = np.zeros(size, dtype=image.dtype) if isinstance(image, np.ndarray) else image.new_zeros(size)
    first = [max(-c, 0) for c in corner]
    window[:, *_make_box(first, [a + n for a, n in zip(first, part.shape[1:], strict=True)])] = part
    return window


def _replicate(part: Values, before: Sequence[int], window: Sequence[int]) -> Values:
    """Continue a part (channel, i, j, k) by its outermost values, to a window's size."""
    sides = [(n, w - n - have) for n, w, have in zip(before, window, part.shape[1:], strict=True)]
    if isinstance(part, np.ndarray):
        return np.pad(part, [(0, 0), *sides], mode="edge")
    import torch

    widths = [n for pair in reversed(sides) for n in pair]
    return torch.nn.functional.pad(part[None], widths, mode="replicate")[0]


def _subtract(minuend: Sequence[int], subtrahend: Sequence[int]) -> list[int]:
    return [a - b for a, b in zip(minuend, subtrahend, strict=True)]


def _make_box(low: Sequence[int], high: Sequence[int]) -> Box:
    i, j, k = (slice(a, b) for a, b in zip(low, high, strict=True))
    return i, j, k
