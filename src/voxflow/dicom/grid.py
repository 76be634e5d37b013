"""The check that slices make a volume: one regular grid, or a reason in words and values why not.

Slices are ordered by their position along the normal of their plane (PS3.3 C.7.6.2.1.1), never by InstanceNumber or
file name. They must have one size, orientation and pixel spacing, no two may lie at one place, none may be missing, and
each must lie within a tolerance of where the regular grid has it. Those that lie on no regular grid, but are complete,
raise :class:`IrregularSlicesError`: ``remedy`` may bring them onto one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.claims import check_geometry
from voxflow.errors import DicomError
from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import Plane

POSITION, ORIENTATION, SPACING = "(0020,0032)", "(0020,0037)", "(0028,0030)"
# Decimal strings hold 16 characters; scanners round cosines to six decimals and fewer.
COSINE_TOLERANCE = 1e-3
# How far pixels of two slices may come apart at the far edge of the matrix, in pixels: spacing is rounded when written.
FAR_EDGE_PIXELS = 0.1
# Slices that lie closer than this share of a pixel lie at one place: positions are rounded, and a micro-CT has steps
# of micrometres.
SAME_POSITION_PIXELS = 0.01
# The tolerance in mm is meant for clinical images; of finer steps and pixels, no more than this share is tolerated.
STEP_SHARE, PIXEL_SHARE = 0.2, 0.5
# A gap of more than this many usual gaps means that a slice is not there.
MISSING_GAP_RATIO = 1.5


class IrregularSlicesError(DicomError):
    """Slices of one kind that are all there, but lie on no regular grid: a tilted gantry, or spacing that changes."""


def fit_slice_grid(planes: Sequence[Plane], *, tolerance_mm: float, min_slices: int) -> tuple[Geometry, list[int]]:
    """Put slices in order along their normal, and fit the grid that they lie on.

    Args:
        planes: where each slice lies, in any order.
        tolerance_mm: how far a slice may lie from its place on the grid.
        min_slices: fewer are no volume.

    Returns:
        The geometry (i along columns' index, j along rows' index, k along the normal) and the order: slice k of
        the volume is ``planes[order[k]]``.

    Raises:
        DicomError: they make no volume that can be trusted.

    Example:
        >>> from voxflow.dicom.headers import Plane
        >>> def plane(z):
        ...     return Plane((0, 0, z), (1, 0, 0, 0, 1, 0), spacing=(0.5, 0.7), rows=4, columns=6)
        >>> geometry, order = fit_slice_grid([plane(5), plane(0), plane(2.5)], tolerance_mm=0.1, min_slices=3)
        >>> order, geometry.size, geometry.spacing
        ([1, 2, 0], (6, 4, 3), (0.7, 0.5, 2.5))
    """
    _check_complete(planes)
    _check_same(planes)
    if len(planes) < min_slices:
        raise DicomError(f"too few slices: {len(planes)}, a volume needs at least {min_slices}", where=POSITION)
    along_row, along_column, normal = compute_plane_axes(planes[0])
    positions = np.array([plane.position for plane in planes])
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    _check_steps(distances[order], limit_same_position(planes[0]))
    # The mean step: the rounding of single positions cancels out.
    step = float((distances[order[-1]] - distances[order[0]]) / (len(planes) - 1))
    # The first slice's own position: a grid fitted to all would move every voxel by a fraction.
    first = positions[order[0]]
    _check_on_grid(positions[order], first, normal, step, limit_tolerance(tolerance_mm, step, planes[0]))
    # PixelSpacing is between rows first, so along j; i runs along the columns (PS3.3 10.7.1.3).
    spacing = (planes[0].spacing[1], planes[0].spacing[0], step)
    size = (planes[0].columns, planes[0].rows, len(planes))
    check_geometry(size, spacing, first.tolist())
    direction = np.column_stack([along_row, along_column, normal])
    return Geometry.from_parts(size, spacing, first.tolist(), direction), [int(n) for n in order]


def compute_plane_axes(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute the axes of a plane from ImageOrientationPatient (0020,0037), made exactly perpendicular.

    Returns:
        Unit vectors in LPS: where the column index grows, where the row index grows, and their normal (right-handed).

    Raises:
        DicomError: the orientation is not two perpendicular unit vectors.
    """
    along_row, along_column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    # PS3.3 C.7.6.2.1.1 asks for orthonormal vectors; a hundredth is half a degree, more than any rounding.
    is_orthonormal = np.abs(np.array(lengths) - 1).max() <= 0.01 and abs(along_row @ along_column) <= 0.01
    if not is_orthonormal:
        raise DicomError(f"not two perpendicular unit vectors: {_format_numbers(plane.orientation)}", where=ORIENTATION)
    along_row = along_row / lengths[0]
    along_column = along_column - (along_column @ along_row) * along_row
    along_column = along_column / np.linalg.norm(along_column)
    return along_row, along_column, np.cross(along_row, along_column)


def limit_tolerance(tolerance_mm: float, step: float, plane: Plane) -> tuple[float, float]:
    """Limit how far a slice may lie from its place to a share of the voxel.

    Args:
        tolerance_mm: what is tolerated in large voxels.
        step: between slices, mm.
        plane: any of the slices.

    Returns:
        The tolerance along the normal and within the plane, mm.

    Example:
        >>> from voxflow.dicom.headers import Plane
        >>> mouse = Plane((0, 0, 0), (1, 0, 0, 0, 1, 0), spacing=(0.02, 0.02), rows=500, columns=500)
        >>> limit_tolerance(0.1, 0.02, mouse)
        (0.004, 0.01)
    """
    return min(tolerance_mm, STEP_SHARE * abs(step)), min(tolerance_mm, PIXEL_SHARE * min(plane.spacing))


def limit_same_position(plane: Plane) -> float:
    """Compute how close slices must lie to lie at one place, mm."""
    return SAME_POSITION_PIXELS * min(plane.spacing, default=0.1)


def measure_spacing(plane: Plane) -> NDArray[np.float64]:
    """Measure PixelSpacing (0028,0030) so that a difference tells how far pixels come apart at the far edge, in pixels.

    Returns:
        (2,), along columns and along rows; NaN where the spacing is no two positive numbers.
    """
    spacing = np.array(plane.spacing if len(plane.spacing) == 2 else (np.nan, np.nan), dtype=np.float64)
    # The logarithm: its differences are relative ones.
    return np.log(np.where(spacing > 0, spacing, np.nan)) * (plane.rows, plane.columns)


def _check_complete(planes: Sequence[Plane]) -> None:
    for tag, name, length in (
        (POSITION, "position", 3),
        (ORIENTATION, "orientation", 6),
        (SPACING, "spacing", 2),
    ):
        values = [getattr(plane, name) for plane in planes]
        incomplete = sum(len(value) != length or not np.isfinite(value).all() for value in values)
        if incomplete:
            raise DicomError(
                f"the {name} is missing or no {length} numbers in {incomplete} of {len(planes)}", where=tag
            )
    if min(min(plane.spacing) for plane in planes) <= 0:
        raise DicomError(
            f"the spacing is not positive: {_format_numbers(min(p.spacing for p in planes))}", where=SPACING
        )
    # Before anything is computed of them: the square of 1e300 is no number.
    farthest = max(planes, key=lambda plane: max(map(abs, plane.position)))
    coarsest = max(planes, key=lambda plane: max(plane.spacing))
    check_geometry((coarsest.rows, coarsest.columns), coarsest.spacing, farthest.position)


def _check_same(planes: Sequence[Plane]) -> None:
    sizes = sorted({(plane.rows, plane.columns) for plane in planes})
    if len(sizes) > 1:
        raise DicomError(f"slices of different size (rows, columns): {', '.join(map(str, sizes))}", where="(0028,0010)")
    measures = np.array([measure_spacing(plane) for plane in planes])
    for tag, name, tolerance in ((ORIENTATION, "orientation", COSINE_TOLERANCE), (SPACING, "spacing", FAR_EDGE_PIXELS)):
        values = np.array([getattr(plane, name) for plane in planes])
        numbers = measures if tag == SPACING else values
        differences = np.abs(numbers - numbers[0]).max(axis=1)
        if differences.max() > tolerance:
            example = _format_numbers(values[int(differences.argmax())])
            count = int((differences > tolerance).sum())
            raise DicomError(
                f"mixed {name}: {_format_numbers(values[0])} in {len(values) - count} slices, "
                f"{example} among the other {count}",
                where=tag,
            )


def _check_steps(distances: NDArray[np.float64], same_position_mm: float) -> None:
    """Distances along the normal, ascending, mm: no two at one place, and none left out."""
    steps = np.diff(distances)
    repeated_count = int((steps < same_position_mm).sum())
    if repeated_count:
        distance = distances[int(np.argmax(steps < same_position_mm))]
        raise DicomError(
            f"{repeated_count} slice(s) at the same position as another, first at {distance:.2f} mm", where=POSITION
        )
    is_missing = find_missing_slices(steps)
    if is_missing.any():
        usual_step = float(np.median(steps))
        index = int(np.argmax(np.where(is_missing, steps, 0)))
        count = sum(round(step / usual_step) - 1 for step in steps[is_missing])
        raise DicomError(
            f"{max(1, count)} slice(s) missing: a gap of {steps[index]:.2f} mm after slice {index + 1} of "
            f"{len(distances)} at {distances[index]:.2f} mm, where slices usually lie {usual_step:.2f} mm apart",
            where=POSITION,
        )


def find_missing_slices(steps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find the steps between slices that skip one: wider than usual, and than their neighbours.

    A step that is as wide as the one beside it is no gap: there the spacing changes, which is another fault.

    Args:
        steps: (slices - 1,), mm between neighbouring slices.

    Returns:
        (slices - 1,), true where a slice is missing.

    Example:
        >>> find_missing_slices(np.array([2.0, 2.0, 4.0, 2.0])).tolist()
        [False, False, True, False]
        >>> find_missing_slices(np.array([2.0, 2.0, 2.0, 4.0, 4.0])).tolist()
        [False, False, False, False, False]
    """
    padded = np.concatenate([[0.0], steps, [0.0]])
    neighbours = np.maximum(padded[:-2], padded[2:])
    neighbours = np.where(neighbours > 0, neighbours, np.inf)
    return np.asarray((steps > MISSING_GAP_RATIO * np.median(steps)) & (steps > MISSING_GAP_RATIO * neighbours))


def _check_on_grid(
    positions: NDArray[np.float64],
    first_position: NDArray[np.float64],
    normal: NDArray[np.float64],
    step: float,
    tolerances_mm: tuple[float, float],
) -> None:
    along_mm, sideways_mm = tolerances_mm
    offsets = positions - (first_position + np.arange(len(positions))[:, None] * step * normal)
    off_along = np.abs(offsets @ normal)
    if off_along.max() > along_mm:
        steps = np.diff(positions @ normal)
        raise IrregularSlicesError(
            f"irregular spacing: slices lie {steps.min():.3f} to {steps.max():.3f} mm apart, one of them "
            f"{off_along.max():.3f} mm off the regular grid (tolerance {along_mm:.3g} mm)",
            where=POSITION,
        )
    off_sideways = np.linalg.norm(offsets - (offsets @ normal)[:, None] * normal, axis=1)
    if off_sideways.max() > sideways_mm:
        raise IrregularSlicesError(
            f"slices shifted sideways by up to {off_sideways.max():.2f} mm, as with a tilted gantry "
            f"(tolerance {sideways_mm:.3g} mm)",
            where=POSITION,
        )


def _format_numbers(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
