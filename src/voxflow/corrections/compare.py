"""Measures by class what a correction changed: Dice, volumes, slices, and how far the surface moved and which way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

NAN = math.nan


@dataclass(frozen=True)
class ClassChange:
    """What a correction changed of one class.

    Attributes:
        dice: of our mask and the correction; 1 where both are empty.
        mask_ml, corrected_ml: volumes of both.
        added_ml, removed_ml: what was added to our mask, and taken from it.
        slices: those that differ, counted from 1 along k, such as "3-7 9".
        surface_mm: mean signed distance of the corrected surface from ours; positive where it lies outside.
        outward_mm, inward_mm: how far it moved out, and in, at most.
        earlier_dice: of the correction and the version before it; NaN where there is none.
    """

    dice: float
    mask_ml: float
    corrected_ml: float
    added_ml: float
    removed_ml: float
    slices: str
    surface_mm: float
    outward_mm: float
    inward_mm: float
    earlier_dice: float = NAN


def measure_change(mask: Mask, corrected: Mask, spacing: Sequence[float], earlier: Mask | None = None) -> ClassChange:
    """Compare one class of our mask and of a correction.

    Args:
        mask: ours (i, j, k).
        corrected: the correction, of the same shape.
        spacing: mm along each axis.
        earlier: the version before.

    Example:
        >>> mask, corrected = np.zeros((2, 6, 6, 6), dtype=bool)
        >>> mask[1:4, 1:4, 1:4], corrected[1:4, 1:4, 1:5] = True, True
        >>> change = measure_change(mask, corrected, (1, 1, 2))
        >>> round(change.dice, 3), round(change.added_ml, 3), change.slices, change.outward_mm, change.inward_mm
        (0.857, 0.018, '5', 2.0, 0.0)
    """
    voxel_ml = math.prod(spacing) / 1000
    differs = (mask ^ corrected).any(axis=(0, 1))
    signed = _measure_signed_distances(mask, corrected, spacing)
    return ClassChange(
        dice=measure_dice(mask, corrected),
        mask_ml=int(mask.sum()) * voxel_ml,
        corrected_ml=int(corrected.sum()) * voxel_ml,
        added_ml=int((corrected & ~mask).sum()) * voxel_ml,
        removed_ml=int((mask & ~corrected).sum()) * voxel_ml,
        slices=_join_ranges(np.flatnonzero(differs) + 1),
        surface_mm=float(signed.mean()) if signed.size else NAN,
        outward_mm=max(0.0, float(signed.max())) if signed.size else NAN,
        inward_mm=max(0.0, -float(signed.min())) if signed.size else NAN,
        earlier_dice=NAN if earlier is None else measure_dice(earlier, corrected),
    )


def measure_dice(first: Mask, second: Mask) -> float:
    """Compute 2 |A∩B| / (|A| + |B|); 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def is_within_rounding(mask: Mask, corrected: Mask) -> bool:
    """Whether two masks differ by no more than contours or another grid round: at the edge, by one voxel.

    Args:
        mask: (i, j, k).
        corrected: of the same shape.
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    cube = np.ones((3, 3, 3), dtype=np.bool_)
    lost = binary_erosion(mask, cube, border_value=1) & ~corrected
    return not lost.any() and not (corrected & ~binary_dilation(mask, cube)).any()


def _measure_signed_distances(mask: Mask, corrected: Mask, spacing: Sequence[float]) -> NDArray[Any]:
    """The distance of every surface voxel of the correction from our surface, mm; negative inside of our mask.

    Where the correction took a whole region away, its own surface does not say so: our surface voxels there count by
    their distance from the correction, negative.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

    if not mask.any() or not corrected.any():
        return np.empty(0)
    box = find_objects((mask | corrected).astype(np.uint8))[0]
    mask, corrected = mask[box], corrected[box]
    surfaces = [np.asarray(array & ~binary_erosion(array)) for array in (mask, corrected)]
    to_mask, to_corrected = (distance_transform_edt(~surface, sampling=spacing) for surface in surfaces)
    moved = np.where(mask, -to_mask, to_mask)[surfaces[1]]
    removed = surfaces[0] & ~corrected
    return np.concatenate([moved, -to_corrected[removed]])


def _join_ranges(numbers: NDArray[Any]) -> str:
    """Whole numbers, ascending, as ranges: "3-7 9"."""
    if not numbers.size:
        return ""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return " ".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)
