"""Owns the layout of a training by the data's fingerprint: patch, batch, network, as nnU-Net's rules have it."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from voxflow.machine import Machine
    from voxflow.volumes import Fingerprint

Step = tuple[int, int, int]

SMALLEST_EDGE = 4  # voxels that an axis keeps in the deepest level
DEEPEST = 5  # levels; a patch is a multiple of the total stride, and 16 voxels still fit thick slices
SAME = 2.0  # axes whose voxels differ by less are treated alike
# Voxels of a patch that a machine trains in good time, and voxels of a step beyond which more patches don't pay.
CPU_PATCH, CPU_STEP = 96**3, 4 * 96**3
GPU_PATCH, GPU_STEP = 128**3, 4 * 128**3
SMALL_GPU_GB = 10.0
CPU_BATCH, GPU_BATCH = 2, 8
CPU_FILTERS, GPU_FILTERS = 16, 32
MOST_FILTERS = {CPU_FILTERS: 256, GPU_FILTERS: 320}
SHARE_OF_DATA = 0.2  # of all voxels of the cases at most in one step, so that steps differ


class Layout(BaseModel):
    """What follows from data and machine.

    Attributes:
        patch: (i, j, k) voxels.
        batch: patches a step.
        whole: a patch covers the median image, so that it needs no choice of place.
        filters: by level, finest first.
        strides: into each level but the first.
        kernels: of each level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: Step
    batch: int
    whole: bool
    filters: tuple[int, ...]
    strides: tuple[Step, ...]
    kernels: tuple[Step, ...]


def lay_out(fingerprint: Fingerprint, machine: Machine) -> Layout:
    """Choose patch, batch and network.

    The patch has the proportions of the median image, as large as it where the machine allows; axes are halved as
    long as they keep enough voxels, thick slices later than the others.
    """
    has_gpu = bool(machine.gpu)
    voxels = (GPU_PATCH if machine.gpu_memory_gb >= SMALL_GPU_GB else CPU_PATCH) if has_gpu else CPU_PATCH
    spacing = fingerprint.spacing_mm.median
    image: Step = _triple([ceil(n) for n in fingerprint.size.median])
    patch = _proportional(image, spacing, voxels)
    strides = _strides(patch, spacing)
    multiple = max(prod(step[axis] for step in strides) for axis in range(3))
    patch = _triple([max(multiple, multiple * ceil(n / multiple)) for n in patch])
    patch = _shrunk(patch, multiple, voxels)
    first = GPU_FILTERS if has_gpu else CPU_FILTERS
    most = MOST_FILTERS[first]
    return Layout(
        patch=patch,
        batch=_batch(patch, fingerprint, has_gpu=has_gpu),
        whole=all(n >= m for n, m in zip(patch, image, strict=True)),
        filters=tuple(min(most, first * 2**level) for level in range(len(strides) + 1)),
        strides=strides,
        kernels=_kernels(strides, spacing),
    )


def _triple(values: list[int]) -> Step:
    i, j, k = values
    return i, j, k


def _proportional(image: Step, spacing: tuple[float, ...], voxels: int) -> Step:
    """At most ``voxels``: a cube in mm that is cut where it leaves the image, the rest given to the other axes."""
    fixed: dict[int, int] = {}
    while True:
        free = [axis for axis in range(3) if axis not in fixed]
        if not free:
            break
        left = voxels / prod(fixed.values())
        edge_mm = (left * prod(spacing[axis] for axis in free)) ** (1 / len(free))
        over = [axis for axis in free if edge_mm / spacing[axis] >= image[axis]]
        if not over:
            return _triple([fixed.get(axis) or max(1, round(edge_mm / spacing[axis])) for axis in range(3)])
        fixed |= {axis: image[axis] for axis in over}
    return image


def _strides(patch: Step, spacing: tuple[float, ...]) -> tuple[Step, ...]:
    size, mm = list(patch), list(spacing)
    steps: list[Step] = []
    while len(steps) < DEEPEST - 1:
        able = [axis for axis in range(3) if size[axis] >= 2 * SMALLEST_EDGE]
        if not able:
            break
        finest = min(mm[axis] for axis in able)
        step = [2 if axis in able and mm[axis] < SAME * finest else 1 for axis in range(3)]
        # Rounded up: the patch is brought to a multiple of what comes out here.
        size = [ceil(n / s) for n, s in zip(size, step, strict=True)]
        mm = [n * s for n, s in zip(mm, step, strict=True)]
        steps.append(_triple(step))
    return tuple(steps) or ((1, 1, 1),)


def _shrunk(patch: Step, multiple: int, voxels: int) -> Step:
    """Rounding up may have gone too far: the longest axis gives way."""
    sizes = list(patch)
    while prod(sizes) > 1.3 * voxels and max(sizes) > multiple:
        sizes[sizes.index(max(sizes))] -= multiple
    return _triple(sizes)


def _kernels(strides: tuple[Step, ...], spacing: tuple[float, ...]) -> tuple[Step, ...]:
    """Flat where slices are thick: three voxels along each axis only when their lengths are alike."""
    mm, made = list(spacing), []
    for step in ((1, 1, 1), *strides):
        mm = [n * s for n, s in zip(mm, step, strict=True)]
        finest = min(mm)
        made.append(_triple([3 if n < SAME * finest else 1 for n in mm]))
    return tuple(made)


def _batch(patch: Step, fingerprint: Fingerprint, *, has_gpu: bool) -> int:
    voxels = prod(patch)
    by_work = (GPU_STEP if has_gpu else CPU_STEP) // voxels
    by_data = int(SHARE_OF_DATA * fingerprint.voxels * max(1, fingerprint.labelled) / voxels)
    most = GPU_BATCH if has_gpu else CPU_BATCH
    return max(2, min(by_work, by_data, most))
