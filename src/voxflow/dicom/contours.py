"""Filling closed planar contours (PS3.3 C.8.8.6) onto the slices of their image.

Plan: a contour's points are voxel indices of the slices. Contours of nearly one height are one plane of the ROI. Each
plane goes to the slice nearest to it, and no two to the same. There, contours are filled one by one, even-odd, and
combined from the largest to the smallest. Slices between planes that lie regularly, but farther apart than slices, are
interpolated. Contours across the slices are filled in the same way on planes of their own: the image's grid seen from
the side, or a finer grid along their direction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.label_grid import interpolate_masks
from voxflow.errors import DicomError
from voxflow.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.label_grid import LabelGrid

CONTOUR_DATA = "(3006,0050)"
# A contour whose points lie within this share of a slice lies in one slice.
ONE_SLICE = 0.5
# Contours whose heights follow each other this closely are one plane, in slices: positions are rounded, and slices lie
# a little off the regular grid. A plane as thick as the second number is several, of contours drawn on thinner slices.
SAME_PLANE, THICKEST_PLANE, FINE_PLANE = 0.1, 0.25, 0.01
# This close to the middle between two slices, a plane may go to either.
HALFWAY = 1e-3
# Planes this many usual steps apart have none missing between them.
COMPLETE_STEPS = 1.5
# Cosine of 2.5 degrees: contours of one oblique direction.
SAME_DIRECTION = 0.999


@dataclass(frozen=True)
class Contour:
    """A closed planar contour.

    Attributes:
        points: (points, 3), mm, LPS; ContourData (3006,0050).
        exclusive: whether it is combined even-odd with all others of its plane (CLOSEDPLANAR_XOR).
    """

    points: NDArray[np.float64]
    exclusive: bool = False


@dataclass(frozen=True)
class FilledContours:
    """The voxels that contours enclose, and what was left out.

    Attributes:
        mask: (i, j, k).
        outside: how many contours lie wholly outside of the image.
        unused: how many belong to a plane that lies farther from its slice than another one.
        across: how many are drawn across the slices.
        is_interpolated: whether slices between the contours were filled.
        lost_slices: what to say of slices that the resampled image does not take; empty if there are none.
    """

    mask: NDArray[np.bool_]
    outside: int = 0
    unused: int = 0
    across: int = 0
    is_interpolated: bool = False
    lost_slices: str = ""


def fill_contours(contours: Sequence[Contour], grid: LabelGrid) -> FilledContours:
    """Fill the contours of one ROI on the grid of its image; a voxel is inside if its centre is.

    Args:
        contours: in any planes.
        grid: of the image.

    Raises:
        DicomError: all lie outside of the image, or one is not planar.
    """
    contours_by_axis: dict[int | None, list[Contour]] = {}
    for contour in contours:
        contours_by_axis.setdefault(_find_slice_axis(contour, grid), []).append(contour)
    filled = [_fill_along_axis(members, axis, grid) for axis, members in contours_by_axis.items()]
    outside = sum(part.outside for part in filled)
    if contours and outside == len(contours):
        raise DicomError("all contours lie outside of the image", where=CONTOUR_DATA)
    mask = np.zeros(grid.geometry.size, dtype=np.bool_)
    for part in filled:
        mask |= part.mask
    return FilledContours(
        mask=mask,
        outside=outside,
        unused=sum(part.unused for part in filled),
        across=sum(len(members) for axis, members in contours_by_axis.items() if axis != 2),
        is_interpolated=any(part.is_interpolated for part in filled),
        lost_slices="".join(part.lost_slices for part in filled),
    )


def fill_outline(outline: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill one closed outline, even-odd.

    Args:
        outline: (points, 2), voxel indices (i, j); pixel centres are whole numbers.
        size: of the mask, (i, j).

    Returns:
        Mask (i, j). A centre that lies on the outline counts for one of the two sides, always the same one.

    Example:
        >>> square = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 2.5], [0.5, 2.5]])
        >>> fill_outline(square, (5, 4)).astype(int)
        array([[0, 0, 0, 0],
               [0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]])
    """
    start, end = outline, np.roll(outline, -1, axis=0)
    # From its lower end, so that an edge drawn there and back crosses at the very same number both times.
    upwards = (start[:, 1] < end[:, 1]) | ((start[:, 1] == end[:, 1]) & (start[:, 0] <= end[:, 0]))
    start, end = np.where(upwards[:, None], start, end), np.where(upwards[:, None], end, start)
    low = np.ceil(start[:, 1]).clip(0, size[1]).astype(int)
    high = np.ceil(end[:, 1]).clip(0, size[1]).astype(int)
    # In the outline's own box alone: most are far smaller than a slice.
    left, right = (int(i) for i in np.ceil([outline[:, 0].min(), outline[:, 0].max()]).clip(0, size[0]))
    bottom, top = int(low.min()), int(high.max())
    toggles = np.zeros((right - left + 1, top - bottom), dtype=np.int32)
    for edge in np.flatnonzero(high > low):
        # Rows j that this edge crosses; everything to the right of the crossing changes sides.
        rows = np.arange(low[edge], high[edge])
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        crossing = start[edge, 0] + (rows - start[edge, 1]) * slope
        np.add.at(toggles, (np.ceil(crossing).clip(left, right).astype(int) - left, rows - bottom), 1)
    mask = np.zeros(size, dtype=np.bool_)
    mask[left:right, bottom:top] = np.cumsum(toggles[:-1], axis=0) % 2 == 1
    return mask


def _find_slice_axis(contour: Contour, grid: LabelGrid) -> int | None:
    """The axis of the image's grid that a contour is drawn across, 2 where it lies in a slice; None where oblique."""
    extents = np.ptp(grid.geometry.to_index(contour.points), axis=0)
    extents[2] = np.ptp(grid.to_index(contour.points)[:, 2])
    # The thinnest: a small contour across thick slices may lie within one.
    axis = 2 - int(np.round(extents, 3)[::-1].argmin())
    return axis if extents[axis] <= ONE_SLICE else None


def _fill_along_axis(contours: Sequence[Contour], axis: int | None, grid: LabelGrid) -> FilledContours:
    if axis == 2:
        filled = _fill_planes(contours, [grid.to_index(contour.points) for contour in contours], grid.drawn_size)
        return replace(filled, mask=grid.move(filled.mask), lost_slices=grid.describe_lost_slices(filled.mask))
    if axis is None:
        return _fill_oblique(contours, grid.geometry)
    order = [*(n for n in range(3) if n != axis), axis]
    size = tuple(grid.geometry.size[n] for n in order)
    indices = [grid.geometry.to_index(contour.points)[:, order] for contour in contours]
    filled = _fill_planes(contours, indices, (size[0], size[1], size[2]))
    return replace(filled, mask=filled.mask.transpose(np.argsort(order)))


def _fill_planes(
    contours: Sequence[Contour], indices: Sequence[NDArray[np.float64]], size: tuple[int, int, int]
) -> FilledContours:
    """Fill contours, each of which lies within a slice.

    Args:
        contours: of one ROI.
        indices: their points (points, 3) as (i, j, slice).
        size: of the mask.
    """
    mask = np.zeros(size, dtype=np.bool_)
    heights = np.array([index[:, 2].mean() for index in indices])
    planes = _group_heights(heights)
    plane_heights = np.array([heights[plane].mean() for plane in planes])
    slice_by_plane = _assign_slices(plane_heights, size[2])
    outside = unused = 0
    for n, plane in enumerate(planes):
        visible = [c for c in plane if _reaches_into(indices[c][:, :2], size[:2])]
        is_beyond = not -ONE_SLICE <= plane_heights[n] <= size[2] - ONE_SLICE
        outside += len(plane) if is_beyond else len(plane) - len(visible)
        if n not in slice_by_plane:
            unused += 0 if is_beyond else len(visible)
            continue
        outlines = [(fill_outline(indices[c][:, :2], size[:2]), contours[c].exclusive) for c in plane]
        mask[:, :, slice_by_plane[n]] = _combine_contours(outlines)
    is_interpolated = _fill_between(mask, plane_heights, slice_by_plane)
    return FilledContours(mask, outside=outside, unused=unused, is_interpolated=is_interpolated)


def _group_heights(heights: NDArray[np.float64]) -> list[list[int]]:
    """Contours by plane, ascending; ``heights`` are in slices."""
    order = [int(n) for n in np.argsort(heights, kind="stable")]
    planes = []
    for plane in _split_at_gaps(order, heights, SAME_PLANE):
        is_several = heights[plane[-1]] - heights[plane[0]] > THICKEST_PLANE
        planes += _split_at_gaps(plane, heights, FINE_PLANE) if is_several else [plane]
    return planes


def _split_at_gaps(order: Sequence[int], heights: NDArray[np.float64], gap: float) -> list[list[int]]:
    groups: list[list[int]] = []
    for n in order:
        if groups and heights[n] - heights[groups[-1][-1]] <= gap:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups


def _assign_slices(heights: NDArray[np.float64], slices: int) -> dict[int, int]:
    """The slice of each plane: the nearest one, unless a plane that is nearer has it."""
    slice_by_plane: dict[int, int] = {}
    distances = np.round(np.abs(heights - np.rint(heights)), 3)
    # Planes that lie halfway all go up, so that they stay neighbours; or all down where the last would leave the image.
    is_upward = not (np.abs(heights - (slices - 0.5)) <= HALFWAY).any()
    for n in sorted(range(len(heights)), key=lambda n: (distances[n], heights[n] if is_upward else -heights[n])):
        candidates = {int(np.floor(heights[n] + 0.5 + HALFWAY)), int(np.ceil(heights[n] - 0.5 - HALFWAY))}
        for k in sorted(candidates, reverse=is_upward):
            if 0 <= k < slices and k not in slice_by_plane.values():
                slice_by_plane[n] = k
                break
    return slice_by_plane


def _fill_between(mask: NDArray[np.bool_], heights: NDArray[np.float64], slice_by_plane: dict[int, int]) -> bool:
    """Fill the slices between planes that follow each other regularly, in place; tells whether there were any."""
    step = _find_usual_step(heights)
    is_interpolated = False
    for lower, upper in pairwise(sorted(slice_by_plane)):
        low, high = slice_by_plane[lower], slice_by_plane[upper]
        if high - low < 2 or heights[upper] - heights[lower] > COMPLETE_STEPS * step:
            continue
        shares = [(k - low) / (high - low) for k in range(low + 1, high)]
        between = interpolate_masks(mask[:, :, low], mask[:, :, high], shares)
        mask[:, :, low + 1 : high] = np.stack(between, axis=-1)
        is_interpolated = True
    return is_interpolated


def _find_usual_step(heights: NDArray[np.float64]) -> float:
    """The distance that most neighbouring planes have, in slices; 0 where no two have the same."""
    steps = np.diff(heights)
    lengths, members, counts = np.unique(np.round(steps, 1), return_inverse=True, return_counts=True)
    return float(steps[members == counts.argmax()].mean()) if lengths.size and counts.max() > 1 else 0.0


def _reaches_into(outline: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether an outline (points, 2) reaches into a slice at all."""
    return bool((outline.max(axis=0) >= -0.5).all() and (outline.min(axis=0) <= np.array(size) - 0.5).all())


def _combine_contours(filled: Sequence[tuple[NDArray[np.bool_], bool]]) -> NDArray[np.bool_]:
    """The contours of one plane, from the largest to the smallest."""
    ordered = sorted(filled, key=lambda contour: -int(contour[0].sum()))
    region = np.zeros_like(ordered[0][0])
    combined: list[NDArray[np.bool_]] = []
    for mask, exclusive in ordered:
        if exclusive:
            region ^= mask
        # Drawn twice: the second copy would read as a hole that fills the first.
        elif any(np.array_equal(mask, earlier) for earlier in combined):
            continue
        # Wholly inside of what is filled: a hole. The keyhole technique (PS3.3 C.8.8.6.3) needs no rule: its channel,
        # drawn there and back, fills nothing.
        elif (region & mask).sum() == mask.sum():
            region &= ~mask
        else:
            region |= mask
        combined.append(mask)
    return region


def _fill_oblique(contours: Sequence[Contour], geometry: Geometry) -> FilledContours:
    """Fill contours on planes of their own, then take for each voxel the nearest pixel of the nearest plane."""
    groups: list[tuple[NDArray[np.float64], list[Contour]]] = []
    for contour in contours:
        normal = _find_normal(contour, geometry)
        for direction, members in groups:
            if abs(direction @ normal) > SAME_DIRECTION:
                members.append(contour)
                break
        else:
            groups.append((normal, [contour]))
    total = FilledContours(np.zeros(geometry.size, dtype=np.bool_))
    for normal, members in groups:
        planes_grid = _lay_plane_grid(members, normal, geometry)
        if planes_grid is None:
            total = replace(total, outside=total.outside + len(members))
            continue
        indices = [planes_grid.to_index(contour.points) for contour in members]
        filled = _fill_planes(members, indices, planes_grid.size)
        total = replace(
            total,
            mask=total.mask | _sample_nearest(filled.mask, planes_grid, geometry),
            outside=total.outside + filled.outside,
            unused=total.unused + filled.unused,
        )
    return total


def _find_normal(contour: Contour, geometry: Geometry) -> NDArray[np.float64]:
    """The unit normal of a contour's plane, by Newell's sum over its edges."""
    offsets = contour.points - contour.points.mean(axis=0)
    area = np.cross(offsets, np.roll(offsets, -1, axis=0)).sum(axis=0)
    size = float(np.linalg.norm(area))
    thickness = np.abs(offsets @ area).max() / size if size > 0 else np.inf
    if thickness > ONE_SLICE * min(geometry.spacing):
        raise DicomError(f"a closed contour is not planar: points are {thickness:.2f} mm off", where=CONTOUR_DATA)
    return np.asarray(area / size)


def _lay_plane_grid(contours: Sequence[Contour], normal: NDArray[np.float64], geometry: Geometry) -> Geometry | None:
    """A grid whose slices are the planes of contours, with pixels of half the image's; None beyond the image."""
    along = geometry.direction[:, int(np.abs(geometry.direction.T @ normal).argmin())]
    along = along - (along @ normal) * normal
    along /= np.linalg.norm(along)
    axes = np.column_stack([along, np.cross(normal, along), normal])
    points = np.concatenate([contour.points for contour in contours]) @ axes
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(geometry.size) - 0.5
    box = geometry.to_physical(corners) @ axes
    low, high = np.maximum(points.min(axis=0), box.min(axis=0)), np.minimum(points.max(axis=0), box.max(axis=0))
    if (low > high).any():
        return None
    heights = np.array([(contour.points @ normal).mean() for contour in contours])
    voxel = float(np.abs(geometry.direction.T @ normal) @ np.array(geometry.spacing))
    planes = np.array([heights[plane].mean() for plane in _group_heights(heights / voxel)])
    inside = planes[(planes >= low[2] - voxel) & (planes <= high[2] + voxel)]
    step = (_find_usual_step(inside / voxel) * voxel or float(np.diff(inside).min())) if len(inside) > 1 else voxel
    pixel = min(geometry.spacing) / 2
    spacing = np.array([pixel, pixel, step])
    # The first slice lies on a plane of contours.
    low[2] = inside[0] if len(inside) else low[2]
    size = np.maximum(np.ceil(np.round((high - low) / spacing, 3)).astype(int), 0) + 1
    return Geometry.from_parts(size.tolist(), spacing.tolist(), (axes @ low).tolist(), axes)


def _sample_nearest(mask: NDArray[np.bool_], grid: Geometry, geometry: Geometry) -> NDArray[np.bool_]:
    """The value of a mask at the voxels of another grid; outside of it, false."""
    sampled = np.zeros(geometry.size, dtype=np.bool_)
    i, j = np.meshgrid(*map(np.arange, geometry.size[:2]), indexing="ij")
    for k in range(geometry.size[2]):
        points = geometry.to_physical(np.stack([i, j, np.full_like(i, k)], axis=-1).astype(np.float64))
        index = np.rint(np.round(grid.to_index(points), 6)).astype(np.intp)
        is_inside = ((index >= 0) & (index < grid.size)).all(axis=-1)
        sampled[is_inside, k] = mask[tuple(index[is_inside].T)]
    return sampled
