"""Corrects slices that are not on a regular grid: shears a tilted gantry, resamples a changing spacing.

Plan: :func:`plan_remedy` measures how far each slice is shifted sideways from the first (shear), and where it lies
along the normal; it lays the regular grid that holds them all. :func:`apply_remedy` then fills that grid plane by
plane: the two slices around it, each shifted by its own fraction of pixels, blended linearly. Nothing is guessed:
slices that are missing, or shifted in a way that no tilt explains, are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.claims import check_geometry, check_new_grid
from voxflow.dicom.grid import (
    POSITION,
    compute_plane_axes,
    find_missing_slices,
    limit_same_position,
    limit_tolerance,
)
from voxflow.errors import DicomError
from voxflow.geometry import Geometry
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import Plane

# Gantries tilt by 30 degrees at most; a stack that leans more is something else.
MAX_TILT_DEGREES = 45.0
# Where a slice lies is rounded to this many decimals of a pixel or a slice, so that noise adds no rim.
DECIMALS = 6


@dataclass(frozen=True)
class RemedyPlan:
    """How slices that lie on no regular grid are brought onto one.

    Attributes:
        order: slice k of the stack is plane ``order[k]``.
        shifts: (slices, 2), how far each slice lies from the first along (i, j), pixels.
        slice_positions: (slices,), where each slice lies along the new grid's k.
        corner: the index (i, j) of the new grid's first voxel in the first slice; not above 0.
        target: the new grid.
        description: what is changed, in words.
    """

    order: list[int]
    shifts: NDArray[np.float64]
    slice_positions: NDArray[np.float64]
    corner: tuple[int, int]
    target: Geometry
    description: str

    @property
    def stack_geometry(self) -> Geometry:
        """A grid for the slices as they are stacked, before the remedy; its third axis says nothing."""
        first = self.target.to_physical(-np.array([*self.corner, 0.0]))
        size = tuple(n - extra for n, extra in zip(self.target.size, self._rim, strict=False))
        return Geometry.from_parts(
            (size[0], size[1], len(self.order)), self.target.spacing, first.tolist(), self.target.direction
        )

    @property
    def _rim(self) -> tuple[int, int]:
        width = np.ceil(self.shifts.max(axis=0)) - np.floor(self.shifts.min(axis=0))
        return int(width[0]), int(width[1])


def plan_remedy(planes: Sequence[Plane], *, tolerance_mm: float, tilt: bool, irregular: bool) -> RemedyPlan | None:
    """Plan how to bring slices that :func:`fit_slice_grid` refuses onto a regular grid.

    Args:
        planes: where each slice lies; all of one size, orientation and pixel spacing.
        tolerance_mm: how far a slice may lie from its place.
        tilt: whether shear may be corrected.
        irregular: whether changing spacing may be resampled.

    Returns:
        None where nothing of that kind is wrong with them, or it may not be remedied.

    Raises:
        DicomError: slices are shifted sideways, but not as a tilted gantry does it.
    """
    _, _, normal = compute_plane_axes(planes[0])
    order = np.argsort([np.dot(plane.position, normal) for plane in planes], kind="stable")
    offsets = np.array([planes[n].position for n in order]) - planes[order[0]].position
    distances = offsets @ normal
    steps = np.diff(distances)
    along_mm, sideways_mm = limit_tolerance(tolerance_mm, float(np.median(steps)), planes[0])
    is_even = bool(np.abs(distances - np.linspace(0, distances[-1], len(distances))).max() <= along_mm)
    if steps.min() < limit_same_position(planes[0]) or find_missing_slices(steps).any() or not (is_even or irregular):
        return None
    sideways = offsets - distances[:, None] * normal
    largest_shift = float(np.linalg.norm(sideways, axis=1).max())
    if largest_shift > sideways_mm and not tilt:
        return None
    degrees = _measure_tilt(sideways, distances, sideways_mm) if largest_shift > sideways_mm else 0.0
    count = len(planes) if is_even else max(2, round(float(distances[-1] / np.median(steps))) + 1)
    step = float(distances[-1]) / (count - 1)
    sheared = f"gantry tilt of {degrees:.2f} degrees corrected by shear, slices moved by up to {largest_shift:.2f} mm"
    resampled = f"{len(planes)} slices, {steps.min():.3f} to {steps.max():.3f} mm apart, resampled to {step:.3f} mm"
    description = "; ".join([*([sheared] if degrees else []), *([] if is_even else [resampled])])
    if not description:
        return None
    slice_positions = np.arange(float(count)) if is_even else np.round(distances / step, DECIMALS)
    first = planes[order[0]].position
    shifts, corner, target = _lay_grid(planes[0], first, sideways * bool(degrees), count, step)
    check_new_grid((planes[0].columns, planes[0].rows, len(planes)), target.size)
    check_geometry(target.size, target.spacing, target.origin)
    return RemedyPlan([int(n) for n in order], shifts, slice_positions, corner, target, description)


def _lay_grid(
    plane: Plane, first: tuple[float, ...], sideways: NDArray[np.float64], count: int, step: float
) -> tuple[NDArray[np.float64], tuple[int, int], Geometry]:
    """Lay the regular grid that holds every slice, however far it is shifted.

    Args:
        plane: any of the slices.
        first: position of the first slice along the normal, mm, LPS.
        sideways: (slices, 3), how far each slice is shifted from the first within its plane, mm, LPS.
        count: of the new grid's slices.
        step: between them, mm.

    Returns:
        Shifts, corner and target as :class:`RemedyPlan` has them.
    """
    along_row, along_column, normal = compute_plane_axes(plane)
    pixel = np.array([plane.spacing[1], plane.spacing[0]])
    # Adding zero makes a negative zero positive.
    shifts = np.round(sideways @ np.column_stack([along_row, along_column]) / pixel, DECIMALS) + 0.0
    low, high = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    size = (plane.columns + int(high[0] - low[0]), plane.rows + int(high[1] - low[1]), count)
    origin = first + np.column_stack([along_row, along_column]) @ (low * pixel)
    direction = np.column_stack([along_row, along_column, normal])
    target = Geometry.from_parts(size, (pixel[0], pixel[1], step), origin.tolist(), direction)
    return shifts, (int(low[0]), int(low[1])), target


def apply_remedy(stack: NDArray[Any], plan: RemedyPlan) -> Volume:
    """Bring a stack (i, j, slices) onto the regular grid: linear between pixels and between slices.

    Where no slice reaches, voxels get the lowest value of the stack. Whole numbers are rounded.
    """
    remedied = np.empty(plan.target.size, dtype=stack.dtype)
    lowest = float(stack.min())
    for k in range(plan.target.size[2]):
        upper = int(np.searchsorted(plan.slice_positions, k))
        upper = min(max(upper, 0), len(plan.slice_positions) - 1)
        lower = upper if plan.slice_positions[upper] <= k or upper == 0 else upper - 1
        values = _shift_slice(stack[:, :, lower], lower, plan, lowest)
        if lower != upper:
            weight = (k - plan.slice_positions[lower]) / (plan.slice_positions[upper] - plan.slice_positions[lower])
            values = (1 - weight) * values + weight * _shift_slice(stack[:, :, upper], upper, plan, lowest)
        remedied[:, :, k] = np.rint(values) if remedied.dtype.kind in "iu" else values
    return Volume(remedied, plan.target)


def _shift_slice(values: NDArray[Any], k: int, plan: RemedyPlan, fill: float) -> NDArray[np.float64]:
    """One slice (i, j) on the new grid's plane, moved by its shift."""
    shifted = values.astype(np.float64)
    for axis in (0, 1):
        position = float(plan.shifts[k, axis]) - plan.corner[axis]
        whole_pixels = int(np.floor(position))
        shape = list(shifted.shape)
        shape[axis] = plan.target.size[axis] + 1
        padded = np.full(shape, fill)
        # One voxel of rim in front, so that the first voxel blends with what lies outside.
        target_slice = [slice(None), slice(None)]
        target_slice[axis] = slice(whole_pixels + 1, whole_pixels + 1 + shifted.shape[axis])
        padded[tuple(target_slice)] = shifted
        indices, previous = np.arange(1, shape[axis]), np.arange(shape[axis] - 1)
        fraction = position - whole_pixels
        shifted = fraction * padded.take(previous, axis=axis) + (1 - fraction) * padded.take(indices, axis=axis)
    return shifted


def _measure_tilt(sideways: NDArray[np.float64], distances: NDArray[np.float64], tolerance_mm: float) -> float:
    """The angle by which a stack leans, degrees."""
    shift_per_mm = distances @ sideways / (distances @ distances)
    unexplained = float(np.linalg.norm(sideways - distances[:, None] * shift_per_mm, axis=1).max())
    degrees = float(np.degrees(np.arctan(np.linalg.norm(shift_per_mm))))
    if unexplained > tolerance_mm or degrees > MAX_TILT_DEGREES:
        largest_shift = float(np.linalg.norm(sideways, axis=1).max())
        raise DicomError(
            f"slices shifted sideways by up to {largest_shift:.2f} mm, and no tilt of a gantry "
            f"explains it: {unexplained:.2f} mm stay at {degrees:.1f} degrees (tolerance {tolerance_mm:.3g} mm)",
            where=POSITION,
        )
    return degrees
