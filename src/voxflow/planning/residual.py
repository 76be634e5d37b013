"""Lays out nnU-Net's residual encoder presets M, L and XL, whose patch and batch fill the memory of a GPU.

The memory is estimated as nnU-Net does it: by the voxels of all feature maps of one patch, each channel counted. For
each preset nnU-Net measured how many there may be in the memory that it is for, at two patches a step
(nnunetv2, residual_encoder_unet_planners.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

from voxflow.planning.layout import (
    GPU_FILTERS,
    MOST_FILTERS,
    SHARE_OF_DATA,
    TrainingLayout,
    choose_kernels,
    choose_levels,
    double_filters,
    fit_proportions,
    plan_layout,
    read_image_size,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.machine import Machine
    from voxflow.planning.layout import Preset, Triple
    from voxflow.volumes import Fingerprint

BLOCKS = (1, 3, 4, 6, 6, 6)  # residual blocks by level; deeper ones have as many as the last
LEAST_BATCH = 2  # patches a step that a preset's features are counted for
LARGEST_PATCH = 256**3
SHRINK = 0.95  # of a patch that needs too much memory, step by step


@dataclass(frozen=True)
class ResidualPreset:
    """One of nnU-Net's presets.

    Attributes:
        name: M, L or XL.
        memory_gb: of the GPU that it is made for.
        features: voxels of the feature maps of one patch that find room there.
    """

    name: Preset
    memory_gb: float
    features: int


PRESETS = (
    ResidualPreset("M", 9, 680_000_000),
    ResidualPreset("L", 24, 2_100_000_000),
    ResidualPreset("XL", 40, 3_600_000_000),
)


def choose_preset(machine: Machine) -> ResidualPreset:
    """Choose the largest preset whose memory the GPU has; M where it has less, or where there is none."""
    return next((preset for preset in reversed(PRESETS) if machine.gpu_memory_gb >= preset.memory_gb), PRESETS[0])


def plan_residual(fingerprint: Fingerprint, machine: Machine) -> TrainingLayout:
    """Choose preset, patch and batch; without a GPU the smallest preset, with the patch and batch of a plain U-Net."""
    preset = choose_preset(machine)
    if not machine.gpu:
        layout = plan_layout(fingerprint, machine)
        filters = double_filters(GPU_FILTERS, MOST_FILTERS[GPU_FILTERS], len(layout.filters))
        return layout.model_copy(update={"filters": filters, "preset": preset.name})
    # A smaller GPU than the preset's takes as much less.
    budget = preset.features * min(1.0, machine.gpu_memory_gb / preset.memory_gb)
    spacing, image = fingerprint.spacing_mm.median, read_image_size(fingerprint)
    voxels = LARGEST_PATCH
    while True:
        patch = fit_proportions(image, spacing, voxels)
        strides, patch = choose_levels(patch, spacing, voxels, has_gpu=True)
        filters = double_filters(GPU_FILTERS, MOST_FILTERS[GPU_FILTERS], len(strides) + 1)
        features = count_features(patch, filters, strides)
        if features <= budget or voxels == 1:
            break
        voxels = max(1, int(voxels * SHRINK))
    by_memory = round(LEAST_BATCH * budget / features)
    by_data = int(SHARE_OF_DATA * fingerprint.voxels * max(1, fingerprint.labelled) / prod(patch))
    return TrainingLayout(
        patch=patch,
        batch=max(LEAST_BATCH, min(by_memory, by_data)),
        whole=all(n >= m for n, m in zip(patch, image, strict=True)),
        filters=filters,
        strides=strides,
        kernels=choose_kernels(strides, spacing),
        preset=preset.name,
    )


def estimate_memory(layout: TrainingLayout) -> float:
    """Estimate the GPU memory that a step of a preset takes, in 10⁹ bytes: its share of what the preset is made for."""
    preset = next(preset for preset in PRESETS if preset.name == layout.preset)
    features = count_features(layout.patch, layout.filters, layout.strides)
    return preset.memory_gb * features * layout.batch / (LEAST_BATCH * preset.features)


def list_blocks(levels: int) -> list[int]:
    """List the residual blocks of each level, finest first."""
    return [*BLOCKS, *(BLOCKS[-1],) * levels][:levels]


def count_features(patch: Triple, filters: Sequence[int], strides: Sequence[Triple], classes: int = 1) -> int:
    """Count the voxels of all feature maps of one patch, as nnU-Net's estimate of a residual encoder's memory does.

    Args:
        patch: voxels along (i, j, k).
        filters: by level, finest first.
        strides: into each level but the first.
        classes: channels of the answer, which is counted at the patch's resolution alone.

    Example:
        >>> count_features((4, 4, 4), (2, 4), ((2, 2, 2),), classes=3)
        1056
    """
    sizes = [patch]
    for step in strides:
        i, j, k = (n // s for n, s in zip(sizes[-1], step, strict=True))
        sizes.append((i, j, k))
    maps = [count * prod(size) for count, size in zip(filters, sizes, strict=True)]
    blocks = list_blocks(len(filters))
    # The stem; two convolutions a block; the skip of the first block of each level that changes its input.
    encoder = maps[0] + sum(2 * count * voxels for count, voxels in zip(blocks, maps, strict=True))
    encoder += sum(
        voxels
        for voxels, (before, after), step in zip(maps[1:], pairwise(filters), strides, strict=True)
        if before != after or max(step) > 1
    )
    # A transposed and a plain convolution each level.
    return encoder + 2 * sum(maps[:-1]) + classes * prod(patch)
