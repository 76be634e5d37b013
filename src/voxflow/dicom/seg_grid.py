"""A segmentation on another grid than its image: which voxels are inside, by the nearest pixel of the segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.grid import compute_plane_axes
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import Plane
    from voxflow.geometry import Geometry

PLANE_POSITION = "(0020,9113)"
# Frames this close along their normal are one slice, mm.
SAME_SLICE_MM = 1e-2
# Frames of one slice lie upon each other, up to this, mm.
SAME_CORNER_MM = 0.1


class GridMismatchError(DicomError):
    """A segmentation's pixels do not lie on its image's voxels."""


def resample_frames(
    frames: Sequence[tuple[Plane, int, NDArray[np.bool_]]],
    numbers: Sequence[int],
    thickness_mm: float,
    geometry: Geometry,
    *,
    is_spacing: bool,
) -> tuple[dict[int, NDArray[np.bool_]], str]:
    """Take for each voxel of the image the nearest pixel of the segmentation.

    Args:
        frames: plane, segment number and mask (rows, columns) of each frame; all look one way.
        numbers: the segments, by SegmentNumber (0062,0004).
        thickness_mm: how far a slice of the segmentation reaches along its normal; 0 if it does not say.
        geometry: the image's grid.
        is_spacing: whether ``thickness_mm`` is SpacingBetweenSlices (0018,0088), and no SliceThickness (0018,0050).

    Returns:
        Mask (i, j, k) by segment number, and what was done, in words.

    Raises:
        DicomError: frames look several ways, or nothing of the segmentation lies inside of the image.
    """
    first = frames[0][0]
    _check_one_way([plane for plane, _, _ in frames])
    _, _, normal = compute_plane_axes(first)
    distances = np.array([np.dot(plane.position, normal) for plane, _, _ in frames])
    slices = _find_distinct_slices(distances)
    steps = np.diff(slices)
    corners = _find_corners(slices, distances, frames)
    thickness = thickness_mm or (float(steps.min()) if steps.size else float(min(geometry.spacing)))
    if not is_spacing:
        # Thin slices far apart: a voxel between two of them still has a nearest one.
        thickness = max(thickness, _find_usual_step(steps))
    stacks = _stack_frames(frames, numbers, slices, distances)
    masks = {n: np.zeros(geometry.size, dtype=np.bool_) for n in numbers}
    for k, (index, valid) in enumerate(_find_pixels(geometry, first, slices, corners, thickness)):
        for number, stack in stacks.items():
            masks[number][:, :, k][valid] = stack[index]
    has_pixels = any(stack.any() for stack in stacks.values())
    if has_pixels and not any(mask.any() for mask in masks.values()):
        raise DicomError("nothing of the segmentation lies inside of its image", where=PLANE_POSITION)
    return masks, "the segmentation lies on another grid than its image: each voxel takes the nearest pixel"


def _find_pixels(
    geometry: Geometry,
    plane: Plane,
    slices: NDArray[np.float64],
    corners: NDArray[np.float64],
    thickness: float,
) -> Iterator[tuple[tuple[NDArray[np.intp], ...], NDArray[np.bool_]]]:
    """Find the nearest pixel of the segmentation to each voxel of the image, slice by slice of the image.

    Args:
        geometry: the image's grid.
        plane: any frame of the segmentation, for its axes and size.
        slices: (slices,), how far each slice of the segmentation lies along its normal, mm.
        corners: (slices, 3), where the first pixel of each of them lies, mm.
        thickness: of a slice of the segmentation, mm.

    Yields:
        Of each slice, indices (slice, row, column) of the voxels that have such a pixel, and which do (i, j).
    """
    along_row, along_column, normal = compute_plane_axes(plane)
    plane_axes = np.column_stack([along_row / plane.spacing[1], along_column / plane.spacing[0]])
    i, j = np.meshgrid(*map(np.arange, geometry.size[:2]), indexing="ij")
    for k in range(geometry.size[2]):
        points = geometry.to_physical(np.stack([i, j, np.full_like(i, k)], axis=-1).astype(np.float64))
        distance = points @ normal
        nearest = _find_nearest_slices(slices, distance)
        pixel_position = (points - corners[nearest]) @ plane_axes
        # Rounded first, so that a voxel halfway between two pixels takes the same one on every machine.
        column, row = (np.rint(np.round(pixel_position[..., axis], 6)).astype(np.intp) for axis in (0, 1))
        valid = (column >= 0) & (column < plane.columns) & (row >= 0) & (row < plane.rows)
        valid &= np.abs(slices[nearest] - distance) <= thickness / 2 * 1.001
        yield (nearest[valid], row[valid], column[valid]), valid


def _stack_frames(
    frames: Sequence[tuple[Plane, int, NDArray[np.bool_]]],
    numbers: Sequence[int],
    slices: NDArray[np.float64],
    distances: NDArray[np.float64],
) -> dict[int, NDArray[np.bool_]]:
    """Put the frames of each segment into a stack (slices, rows, columns), in the order of the slices."""
    first = frames[0][0]
    stacks = {n: np.zeros((len(slices), first.rows, first.columns), dtype=np.bool_) for n in numbers}
    for (_, number, inside), distance in zip(frames, distances, strict=True):
        if number in stacks:
            stacks[number][int(np.abs(slices - distance).argmin())] |= inside
    return stacks


def _check_one_way(planes: Sequence[Plane]) -> None:
    for plane in planes:
        if len(plane.position) != 3 or len(plane.orientation) != 6 or len(plane.spacing) != 2:
            raise DicomError("a frame has no position, orientation or spacing", where=PLANE_POSITION)
    directions = np.array([(*plane.orientation, *plane.spacing) for plane in planes])
    if np.abs(directions - directions[0]).max() > 1e-3:
        raise DicomError("the frames look several ways, or differ in pixel spacing", where=PLANE_POSITION)


def _find_corners(
    slices: NDArray[np.float64], away: NDArray[np.float64], frames: Sequence[tuple[Plane, int, NDArray[np.bool_]]]
) -> NDArray[np.float64]:
    """Where the first pixel of each slice lies; slices of a tilted gantry are shifted against each other."""
    corners = np.full((len(slices), 3), np.nan)
    for (plane, _, _), distance in zip(frames, away, strict=True):
        k = int(np.abs(slices - distance).argmin())
        distance_mm = 0.0 if np.isnan(corners[k, 0]) else float(np.linalg.norm(corners[k] - plane.position))
        if distance_mm > SAME_CORNER_MM:
            raise DicomError(f"frames of one slice are shifted sideways by {distance_mm:.2f} mm", where=PLANE_POSITION)
        corners[k] = plane.position
    return corners


def _find_distinct_slices(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(distances)
    return np.asarray(ordered[np.concatenate([[True], np.diff(ordered) > SAME_SLICE_MM])])


def _find_usual_step(steps: NDArray[np.float64]) -> float:
    """The distance that most neighbouring slices have, mm; 0 where no two have the same."""
    lengths, counts = np.unique(np.round(steps, 2), return_counts=True)
    return float(lengths[counts.argmax()]) if counts.size and counts.max() > 1 else 0.0


def _find_nearest_slices(slices: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the slice nearest to each distance; of two equally near, the lower one."""
    middles = np.round((slices[1:] + slices[:-1]) / 2, 6)
    return np.asarray(np.searchsorted(middles, np.round(distance, 6), side="left"), dtype=np.intp)
