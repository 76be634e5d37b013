"""Derives patch, batch and network of a training from the data's fingerprint and the machine, by nnU-Net's rules."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, SerializerFunctionWrapHandler, model_serializer

if TYPE_CHECKING:
    from voxflow.machine import Machine
    from voxflow.volumes import Fingerprint

Triple = tuple[int, int, int]
Preset = Literal["", "M", "L", "XL"]

SMALLEST_EDGE = 4  # voxels that an axis keeps in the deepest level
# Levels; a patch is a multiple of the total stride, and 16 voxels still fit thick slices. A GPU takes one more, as
# nnU-Net does, where the patch stays about as large along every axis.
DEEPEST, GPU_DEEPEST = 5, 6
SPARE = 1.1
SAME = 2.0  # axes whose voxels differ by less are treated alike
# Voxels of a patch that a machine trains in good time, and voxels of a step beyond which more patches don't pay.
CPU_PATCH, CPU_STEP = 96**3, 4 * 96**3
GPU_PATCH, GPU_STEP = 128**3, 4 * 128**3
SMALL_GPU_GB = 10.0
CPU_BATCH, GPU_BATCH = 2, 8
CPU_FILTERS, GPU_FILTERS = 16, 32
MOST_FILTERS = {CPU_FILTERS: 256, GPU_FILTERS: 320}
SHARE_OF_DATA = 0.2  # of all voxels of the cases at most in one step, so that steps differ


class TrainingLayout(BaseModel):
    """What follows from data and machine.

    Attributes:
        patch: (i, j, k) voxels.
        batch: patches a step.
        whole: a patch covers the median image, so that it needs no choice of place.
        filters: by level, finest first.
        strides: into each level but the first.
        kernels: of each level.
        patches_a_case: that a step takes of each of its cases.
        preset: of nnU-Net's residual encoders, whose network it is; "": a PlainUnet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: Triple
    batch: int
    whole: bool
    filters: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    patches_a_case: PositiveInt = 1
    preset: Preset = ""

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A layout of before these keys is written as it was.
        content: dict[str, Any] = serialise(self)
        new = {"patches_a_case": 1, "preset": ""}
        return {key: value for key, value in content.items() if key not in new or value != new[key]}

    @property
    def flat_axes(self) -> tuple[int, ...]:
        """The axes (0: i) along which a patch is one voxel thick and no kernel is longer: nothing is learnt there."""
        return tuple(axis for axis, n in enumerate(self.patch) if n == 1 and all(k[axis] == 1 for k in self.kernels))

    @property
    def cases_a_step(self) -> int:
        """Cases that one step takes patches of."""
        return max(1, self.batch // self.patches_a_case)


def plan_layout(fingerprint: Fingerprint, machine: Machine) -> TrainingLayout:
    """Choose patch, batch and network.

    The patch has the proportions of the median image, as large as it where the machine allows; axes are halved as
    long as they keep enough voxels, thick slices later than the others.
    """
    has_gpu = bool(machine.gpu)
    voxels = (GPU_PATCH if machine.gpu_memory_gb >= SMALL_GPU_GB else CPU_PATCH) if has_gpu else CPU_PATCH
    spacing = fingerprint.spacing_mm.median
    image = read_image_size(fingerprint)
    patch = fit_proportions(image, spacing, voxels)
    strides, patch = choose_levels(patch, spacing, voxels, has_gpu=has_gpu)
    first = GPU_FILTERS if has_gpu else CPU_FILTERS
    return TrainingLayout(
        patch=patch,
        batch=_choose_batch(patch, fingerprint, has_gpu=has_gpu),
        whole=all(n >= m for n, m in zip(patch, image, strict=True)),
        filters=double_filters(first, MOST_FILTERS[first], len(strides) + 1),
        strides=strides,
        kernels=choose_kernels(strides, spacing),
    )


def read_image_size(fingerprint: Fingerprint) -> Triple:
    """Return the median image's voxels along (i, j, k), rounded up."""
    return _to_triple([ceil(n) for n in fingerprint.size.median])


def double_filters(first: int, most: int, levels: int) -> tuple[int, ...]:
    """Return the filters by level: twice as many in each, up to ``most``."""
    return tuple(min(most, first * 2**level) for level in range(levels))


def _to_triple(values: list[int]) -> Triple:
    i, j, k = values
    return i, j, k


def fit_proportions(image: Triple, spacing: tuple[float, ...], voxels: int) -> Triple:
    """Return a patch of about ``voxels`` at most: a cube in mm, cut where it leaves the image.

    What is cut along one axis is given to the others.

    Args:
        image: voxels along (i, j, k).
        spacing: mm along (i, j, k).
        voxels: of the patch.
    """
    fixed: dict[int, int] = {}
    while True:
        free = [axis for axis in range(3) if axis not in fixed]
        if not free:
            break
        free_voxels = voxels / prod(fixed.values())
        edge_mm = (free_voxels * prod(spacing[axis] for axis in free)) ** (1 / len(free))
        full = [axis for axis in free if edge_mm / spacing[axis] >= image[axis]]
        if not full:
            return _to_triple([fixed.get(axis) or max(1, round(edge_mm / spacing[axis])) for axis in range(3)])
        fixed |= {axis: image[axis] for axis in full}
    return image


def choose_levels(
    patch: Triple, spacing: tuple[float, ...], voxels: int, *, has_gpu: bool, flat: int | None = None
) -> tuple[tuple[Triple, ...], Triple]:
    """Return the strides into each level but the first, and the patch as these need it.

    Args:
        patch: voxels along (i, j, k).
        spacing: mm along (i, j, k).
        voxels: that the patch should have at most; it may have three tenths more.
        has_gpu: take one level more where the patch stays about as large.
        flat: the axis along which the patch has one voxel and keeps it; None: there is none.
    """
    # A slice has few voxels, so that a level more costs little.
    deepest = [levels + (flat is not None) for levels in (DEEPEST, GPU_DEEPEST)]
    strides = _choose_strides(patch, spacing, deepest[0])
    rounded = _round_patch(patch, strides, voxels, flat)
    if has_gpu:
        deeper = _choose_strides(patch, spacing, deepest[1])
        deeper_patch = _round_patch(patch, deeper, voxels, flat)
        if all(n / SPARE <= m <= SPARE * n for n, m in zip(rounded, deeper_patch, strict=True)):
            return deeper, deeper_patch
    return strides, rounded


def _choose_strides(patch: Triple, spacing: tuple[float, ...], deepest: int) -> tuple[Triple, ...]:
    size, mm = list(patch), list(spacing)
    steps: list[Triple] = []
    while len(steps) < deepest - 1:
        able = [axis for axis in range(3) if size[axis] >= 2 * SMALLEST_EDGE]
        if not able:
            break
        finest = min(mm[axis] for axis in able)
        step = [2 if axis in able and mm[axis] < SAME * finest else 1 for axis in range(3)]
        # Rounded up: the patch is brought to a multiple of what comes out here.
        size = [ceil(n / s) for n, s in zip(size, step, strict=True)]
        mm = [n * s for n, s in zip(mm, step, strict=True)]
        steps.append(_to_triple(step))
    return tuple(steps) or ((1, 1, 1),)


def _round_patch(patch: Triple, strides: tuple[Triple, ...], voxels: int, flat: int | None) -> Triple:
    """Up to a multiple of the total stride; where that goes too far, the longest axis gives way."""
    multiple = max(prod(step[axis] for step in strides) for axis in range(3))
    multiples = [1 if axis == flat else multiple for axis in range(3)]
    sizes = [max(multiple, multiple * ceil(n / multiple)) for n, multiple in zip(patch, multiples, strict=True)]
    while prod(sizes) > 1.3 * voxels and max(sizes) > multiple:
        sizes[sizes.index(max(sizes))] -= multiple
    return _to_triple(sizes)


def choose_kernels(strides: tuple[Triple, ...], spacing: tuple[float, ...]) -> tuple[Triple, ...]:
    """Return each level's kernels: three voxels along each axis only when their lengths are alike.

    Args:
        strides: into each level but the first.
        spacing: mm along (i, j, k).
    """
    mm, kernels = list(spacing), []
    for step in ((1, 1, 1), *strides):
        mm = [n * s for n, s in zip(mm, step, strict=True)]
        finest = min(mm)
        kernels.append(_to_triple([3 if n < SAME * finest else 1 for n in mm]))
    return tuple(kernels)


def _choose_batch(patch: Triple, fingerprint: Fingerprint, *, has_gpu: bool) -> int:
    voxels = prod(patch)
    by_work = (GPU_STEP if has_gpu else CPU_STEP) // voxels
    by_data = int(SHARE_OF_DATA * fingerprint.voxels * max(1, fingerprint.labelled) / voxels)
    most = GPU_BATCH if has_gpu else CPU_BATCH
    return max(2, min(by_work, by_data, most))
