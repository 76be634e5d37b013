"""Lays out a training on single slices, as nnU-Net's configuration 2d: for stacks of few, thick slices.

The patch is one voxel thick along the axis of the thickest voxels, and nothing is learnt along it. A step takes several
slices of several cases.
"""

from __future__ import annotations

from math import inf, prod
from typing import TYPE_CHECKING

from voxflow.planning.budget import LEARNT_SHARE
from voxflow.planning.layout import (
    CPU_FILTERS,
    GPU_FILTERS,
    SHARE_OF_DATA,
    TrainingLayout,
    choose_kernels,
    choose_levels,
    double_filters,
    fit_proportions,
    read_image_size,
)

if TYPE_CHECKING:
    from voxflow.machine import Machine
    from voxflow.planning.layout import Triple
    from voxflow.volumes import Fingerprint

# nnU-Net's 2D networks take 12 slices of 512 x 512 a step in 8 GB, and have at most 512 filters.
SLICE = 512**2
CPU_STEP, GPU_STEP = 4 * SLICE, 12 * SLICE
CPU_BATCH, GPU_BATCH = 32, 128
MOST_FILTERS = {CPU_FILTERS: 256, GPU_FILTERS: 512}


def plan_slices(fingerprint: Fingerprint, machine: Machine) -> TrainingLayout:
    """Choose patch, batch and network of a training on slices."""
    has_gpu, spacing = bool(machine.gpu), fingerprint.spacing_mm.median
    flat = find_slice_axis(spacing)
    image = read_image_size(fingerprint)
    patch = fit_proportions(_flatten(image, flat), spacing, SLICE)
    strides, patch = choose_levels(_flatten(patch, flat), spacing, SLICE, has_gpu=has_gpu, flat=flat)
    first = GPU_FILTERS if has_gpu else CPU_FILTERS
    # No voxel is as long as those across the slices, so that kernels are flat there.
    lengths = tuple(inf if axis == flat else mm for axis, mm in enumerate(spacing))
    cases, patches = _choose_step(patch, fingerprint, has_gpu=has_gpu)
    return TrainingLayout(
        patch=patch,
        batch=cases * patches,
        whole=all(n >= m for n, m in zip(patch, image, strict=True)),
        filters=double_filters(first, MOST_FILTERS[first], len(strides) + 1),
        strides=strides,
        kernels=choose_kernels(strides, lengths),
        patches_a_case=patches,
    )


def find_slice_axis(spacing: tuple[float, ...]) -> int:
    """Find the axis of the thickest voxels, the last of equal ones.

    Args:
        spacing: mm along (i, j, k).

    Example:
        >>> find_slice_axis((0.7, 0.7, 5.0)), find_slice_axis((3.0, 1.0, 1.0)), find_slice_axis((1.0, 1.0, 1.0))
        (2, 0, 2)
    """
    return max(range(3), key=lambda axis: (spacing[axis], axis))


def _flatten(sizes: Triple, flat: int) -> Triple:
    i, j, k = (1 if axis == flat else n for axis, n in enumerate(sizes))
    return i, j, k


def _choose_step(patch: Triple, fingerprint: Fingerprint, *, has_gpu: bool) -> tuple[int, int]:
    """How many cases a step takes slices of, a fifth of them at most, and how many slices of each."""
    by_work = (GPU_STEP if has_gpu else CPU_STEP) // prod(patch)
    by_data = int(SHARE_OF_DATA * fingerprint.voxels * max(1, fingerprint.labelled) / prod(patch))
    batch = max(2, min(by_work, by_data, GPU_BATCH if has_gpu else CPU_BATCH))
    cases = max(1, min(batch, round(SHARE_OF_DATA * LEARNT_SHARE * fingerprint.labelled)))
    return cases, batch // cases
