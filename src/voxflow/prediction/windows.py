"""Plans how a volume is cut for a network: whole where it fits, else into the fewest windows that memory allows.

What is held beside the volume is counted: the network's activations, one window's logits, and the sums of the
logits of a slab, as thick as a window, along the image's longest way. Where the sums of many classes do not fit in
single precision they are kept in half, and where these do not fit either, the slab is done a block at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.engines import Engine
    from voxflow.spec import ModelSpec

Plan = Literal["auto", "whole", "windows"]
Blend = Literal["gaussian", "constant"]
Padding = Literal["constant", "replicate"]
Size = tuple[int, int, int]

LOGIT_BYTES = 4
HALF_BYTES = 2
# Of one voxel of the sums: the sum of the weights, in single precision.
WEIGHT_BYTES = 4


@dataclass(frozen=True)
class WindowPlan:
    """How one image is cut.

    Attributes:
        size: voxels of the image along (i, j, k).
        padded: its size after padding.
        before: voxels of padding in front of each axis.
        window: size of one window; equal to ``padded`` for a single one.
        starts: for each axis, the first voxel of each window, counted in the padded image.
        blend: how overlapping windows are weighted: by a Gaussian around each one's centre, or alike.
        along: the axis along which slabs follow each other.
        across: the axis along which a slab is cut into blocks.
        blocks: how many; more than one where the sums of a whole slab would not fit.
        half: whether the sums are kept in half precision.
        skip_empty: whether a window that holds one value only is taken for background unseen.
        batch: how many windows pass through the network at a time.
        padding: what surrounds the image: zeros, or its outermost values.
    """

    size: Size
    padded: Size
    before: Size
    window: Size
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    blend: Blend = "gaussian"
    along: int = 0
    across: int = 1
    blocks: int = 1
    half: bool = False
    skip_empty: bool = False
    batch: int = 1
    padding: Padding = "constant"

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(len(starts) for starts in self.starts)

    def block_slices(self) -> list[slice]:
        """List the image's voxels along the axis ``across`` that each block holds, in order."""
        n = self.size[self.across]
        edges = [round(n * part / self.blocks) for part in range(self.blocks + 1)]
        return [slice(low, high) for low, high in pairwise(edges)]

    def sums_bytes(self, classes: int) -> int:
        """Count the bytes that the sums of the logits take; 0 where one window is the whole image."""
        if self.count == 1:
            return 0
        sides = [min(w, n) if axis == self.along else n for axis, (w, n) in enumerate(zip(self.window, self.size,
                                                                                          strict=True))]  # fmt: skip
        sides[self.across] = -(-sides[self.across] // self.blocks)
        return math.prod(sides) * (classes * (HALF_BYTES if self.half else LOGIT_BYTES) + WEIGHT_BYTES)


def plan_windows(
    size: Sequence[int],
    engine: Engine,
    plan: Plan = "auto",
    *,
    spec: ModelSpec | None = None,
    memory_mb: int = 4096,
    bytes_per_voxel: int = 384,
    blend: Blend = "gaussian",
    skip_empty: bool = False,
    batch: int | None = None,
) -> WindowPlan:
    """Choose between the whole image and windows.

    Args:
        size: voxels of the image along (i, j, k), on the network's grid.
        engine: gives divisor, training window, overlap, classes, and the sizes that the file accepts.
        plan: "auto" takes the whole image when it fits ``memory_mb`` and the network is local, and else the largest
            windows that do; one that averages over its window (instance norm) is shown windows of the size that it
            was trained on. "windows" takes these for any network.
        spec: what the size of windows and their overlap are read from; None: the model's own.
        memory_mb: bound on activations, logits and their sums; one window of the training's size is the least.
        bytes_per_voxel: what the network's activations need for one voxel of input.
        blend: how overlapping windows are weighted.
        skip_empty: take a window that holds one value only for background.
        batch: windows at a time, if memory allows; None: as many as the engine likes.

    Example:
        A network that is not local is shown windows of its training's size; the short axis is padded on both sides:

        >>> from types import SimpleNamespace
        >>> from voxflow.spec import ModelSpec
        >>> spec = ModelSpec(
        ...     task="segmentation",
        ...     class_names=("background", "spleen"),
        ...     activation="softmax",
        ...     window=(64, 64, 32),
        ...     divisor=16,
        ... )
        >>> engine = SimpleNamespace(spec=spec, is_local=False, smallest=None, largest=None, batch=1)
        >>> plan = plan_windows((100, 64, 24), engine)
        >>> plan.starts, plan.before
        (((0, 36), (0,), (0,)), (0, 0, 4))
        >>> engine.is_local = True
        >>> plan_windows((100, 64, 24), engine).window
        (112, 64, 32)
    """
    limits = _MemoryLimits(engine, spec or engine.spec, memory_mb * 2**20, bytes_per_voxel)
    if limits.spec.keeps_window:
        plan = "windows"  # of the size that the original shows them, or its masks would not be equal
    image = _make_size(size)
    window = _fit_size(limits.spec.window or image, engine)
    whole = _fit_size(_take_larger_sides(image, window), engine)
    covers = all(have >= need for have, need in zip(whole, image, strict=True))
    template = WindowPlan(image, image, (0, 0, 0), window, ((0,), (0,), (0,)), blend, skip_empty=skip_empty)
    if limits.spec.monai:
        template = replace(template, padding=limits.spec.monai.padding)
    if covers and (plan == "whole" or (plan == "auto" and engine.is_local and limits.window(whole) <= limits.budget)):
        return _lay_windows(template, whole, limits)
    if plan == "auto" and engine.is_local:
        window_plan = _plan_largest_windows(template, whole, window, limits)
    else:
        window_plan = _bound_sums(_lay_windows(template, window, limits), limits)
    return replace(window_plan, batch=limits.batch(window_plan, batch or engine.batch))


@dataclass(frozen=True)
class _MemoryLimits:
    """What windows cost, and what they may."""

    engine: Engine
    spec: ModelSpec
    budget: int
    bytes_per_voxel: int

    @property
    def classes(self) -> int:
        return self.engine.spec.out_channels

    def window(self, window: Size) -> int:
        """Bytes that one pass needs: activations, and logits of every class."""
        return math.prod(window) * (self.bytes_per_voxel + LOGIT_BYTES * self.classes)

    def batch(self, plan: WindowPlan, batch: int) -> int:
        """How many windows at a time there is memory for, once the sums have theirs; at least one."""
        room = self.budget - plan.sums_bytes(self.classes)
        return max(1, min(batch, plan.count, room // self.window(plan.window)))

    def fits(self, plan: WindowPlan) -> bool:
        return self.window(plan.window) + plan.sums_bytes(self.classes) <= self.budget


def _plan_largest_windows(template: WindowPlan, whole: Size, least: Size, limits: _MemoryLimits) -> WindowPlan:
    """Cut the longest side of the window in two, three, ... until all fits: few windows, and none below ``least``."""
    pieces, engine = [1, 1, 1], limits.engine
    while True:
        sides = [max(small, -(-n // parts)) for n, parts, small in zip(whole, pieces, least, strict=True)]
        plan = _bound_sums(_lay_windows(template, _fit_size(sides, engine), limits), limits, blocks=False)
        free = [axis for axis in range(3) if plan.window[axis] > least[axis]]
        if limits.fits(plan) or not free:
            return _bound_sums(replace(plan, half=False), limits)
        pieces[max(free, key=lambda axis: plan.window[axis])] += 1


def _bound_sums(plan: WindowPlan, limits: _MemoryLimits, *, blocks: bool = True) -> WindowPlan:
    """The same windows, their sums kept in as little as it takes, and in no less than that."""
    if limits.fits(plan) or plan.count == 1:
        return plan
    plan = replace(plan, half=True)
    # A block below a window's side would have every window computed for several of them.
    most = max(1, plan.size[plan.across] // plan.window[plan.across])
    while blocks and not limits.fits(plan) and plan.blocks < most:
        plan = replace(plan, blocks=plan.blocks + 1)
    return plan


def _lay_windows(template: WindowPlan, window: Size, limits: _MemoryLimits) -> WindowPlan:
    """Lay windows over the image; grown ones share as many voxels with their neighbours as those of the training."""
    size = template.size
    padded = _take_larger_sides(size, window)
    before = _make_size([(new - old) // 2 for new, old in zip(padded, size, strict=True)])
    trained = _fit_size(limits.spec.window or window, limits.engine)
    overlap = limits.spec.overlap
    steps = [
        max(1, int(now * (1 - overlap)), now - int(then * overlap)) for now, then in zip(window, trained, strict=True)
    ]
    if limits.spec.monai:
        steps = [max(1, int(now * (1 - overlap))) for now in window]
    if limits.spec.nnunet:
        i, j, k = (_spread_starts(n, w, overlap) for n, w in zip(padded, window, strict=True))
    else:
        i, j, k = (_list_starts(n, w, step) for n, w, step in zip(padded, window, steps, strict=True))
    # The sums are least where the image is longest beside the window.
    across, along = sorted(range(3), key=lambda axis: size[axis] / window[axis])[1:]
    return replace(template, padded=padded, before=before, window=window, starts=(i, j, k), along=along, across=across)


def _fit_size(size: Sequence[int], engine: Engine) -> Size:
    """The next size that the network and the model file accept."""
    sizes: Sequence[int] = engine.spec.round_up(size)
    if engine.smallest is not None:
        sizes = [max(n, least) for n, least in zip(sizes, engine.smallest, strict=True)]
    if engine.largest is not None:
        sizes = [min(n, most) for n, most in zip(sizes, engine.largest, strict=True)]
    return _make_size(sizes)


def _list_starts(size: int, window: int, step: int) -> tuple[int, ...]:
    """First voxels of the windows along one axis; the last window ends with the image."""
    if window >= size:
        return (0,)
    count = math.ceil((size - window) / step) + 1
    return tuple(min(n * step, size - window) for n in range(count))


def _spread_starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the windows along one axis, as far apart as each other, as nnU-Net lays them."""
    count = math.ceil((size - window) / max(1.0, window * (1 - overlap))) + 1
    return tuple(round((size - window) / max(1, count - 1) * number) for number in range(count))


def _take_larger_sides(size: Sequence[int], least: Sequence[int]) -> Size:
    return _make_size([max(pair) for pair in zip(size, least, strict=True)])


def _make_size(values: Sequence[int]) -> Size:
    i, j, k = (int(value) for value in values)
    return i, j, k
