"""Plans the windows of one image within the memory that its prediction may take: the image, logits, both masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from voxflow.prediction.grids import network_grid
from voxflow.prediction.labels import label_type
from voxflow.prediction.planes import count_restoring_bytes
from voxflow.prediction.splines import count_spline_bytes, takes_splines
from voxflow.prediction.tensors import count_free_bytes, count_score_bytes, is_tensor
from voxflow.prediction.windows import plan_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from voxflow.engines import Engine
    from voxflow.geometry import Geometry
    from voxflow.prediction.blending import Values
    from voxflow.prediction.predict import PredictOptions
    from voxflow.prediction.windows import WindowPlan
    from voxflow.spec import ModelSpec


def plan_image(
    image: Values,
    engine: Engine,
    options: PredictOptions,
    *,
    extra_bytes: int = 0,
    spec: ModelSpec | None = None,
    share: float = 1.0,
) -> WindowPlan:
    """Plan the windows of a prepared image.

    The models of an ensemble each hold sums of their own, and so share the memory.

    Args:
        image: (channel, i, j, k), as the network takes it, an array or a tensor.
        engine: the model.
        options: plan, memory, batch.
        extra_bytes: what else is held beside the image.
        spec: what windows and overlap are read from; None: the model's own.
        share: of the memory that may be taken.
    """
    if is_tensor(image):
        options = _bound_by_gpu(image, options, share)
    elif share < 1:
        options = options.model_copy(update={"memory_mb": max(1, int(options.memory_mb * share))})
    return _plan_size(image.shape[1:], engine, options, image.nbytes + extra_bytes, spec)


def _bound_by_gpu(image: torch.Tensor, options: PredictOptions, share: float) -> PredictOptions:
    """The options with the memory that a prediction may take on the image's device.

    The image is there already, and is counted as what is held.
    """
    free = count_free_bytes(image)
    if free is None:
        return options.model_copy(update={"memory_mb": max(1, int(options.memory_mb * share))})
    bytes_bound = share * min(free, (options.gpu_memory_mb or free) * 2**20) + image.nbytes
    return options.model_copy(update={"memory_mb": max(1, int(bytes_bound) // 2**20)})


def announce_image(engine: Engine, native: Geometry, options: PredictOptions) -> None:
    """Let an engine get ready for an image while that is still being read and prepared.

    Args:
        engine: what will run; OpenVINO compiles its network for the size of the windows meanwhile.
        native: the image's own grid, which its header tells.
        options: of the prediction that follows.
    """
    for network in (*engine.parts, *engine.previous):
        announce_image(network, native, options)
    spec = engine.spec
    is_known = not spec.parts and not (spec.monai and spec.monai.changes_size)  # from the image's grid alone
    if spec.task == "segmentation" and is_known:
        grid = network_grid(native, spec)
        image = math.prod(grid.size) * spec.in_channels * np.dtype(np.float32).itemsize
        plan = _plan_size(grid.size, engine, options, image + count_mask_bytes(grid, native, spec, options))
        engine.expect((plan.batch, spec.in_channels, *plan.window))


def _plan_size(
    size: Sequence[int], engine: Engine, options: PredictOptions, held_bytes: int, spec: ModelSpec | None = None
) -> WindowPlan:
    held_bytes += math.prod(size) * label_type(engine.spec)().itemsize
    return plan_windows(
        size,
        engine,
        options.plan,
        spec=spec,
        memory_mb=max(1, (options.memory_mb - math.ceil(held_bytes / 2**20)) // len(engine.members)),
        bytes_per_voxel=options.bytes_per_voxel,
        blend=options.choose_blend(engine.spec),
        skip_empty=options.skip_empty,
        batch=options.batch,
    )


def count_mask_bytes(
    grid: Geometry, native: Geometry, spec: ModelSpec, options: PredictOptions, *, on_tensors: bool = False
) -> int:
    """Bytes of the mask on the image's own grid, and of the way there."""
    mask = math.prod(native.size) * label_type(spec)().itemsize
    if options.choose_back(spec) == "labels":
        return mask
    if takes_splines(spec):
        return mask if on_tensors else mask + count_spline_bytes(grid, native, spec)
    return mask + (count_score_bytes if on_tensors else count_restoring_bytes)(grid, native, spec)
