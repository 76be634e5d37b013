"""Reading RTSTRUCT: closed planar contours (PS3.3 C.8.8.6) filled onto their image's grid.

Plan: points come in mm, LPS; on the image's grid they become voxel indices, and each contour belongs to a plane between
or in slices. Each slice takes the nearest plane. There, contours are filled one by one, even-odd, and combined from the
largest to the smallest. Where an ROI was drawn in every nth slice alone, the slices between are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.geometry import Geometry

# PS3.3 C.8.8.6.1: POINT, OPEN_PLANAR and OPEN_NONPLANAR enclose nothing.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
CONTOUR_DATA = "(3006,0050)"
# Contours within this share of a slice are drawn in one plane.
SAME_PLANE = 0.1


@dataclass(frozen=True)
class Contour:
    """A closed planar contour.

    Attributes:
        points: (points, 3), mm, LPS; ContourData (3006,0050).
        exclusive: whether it is combined even-odd with all others of its plane (CLOSEDPLANAR_XOR).
    """

    points: NDArray[np.float64]
    exclusive: bool = False


def read_rois(path: Path, geometry: Geometry, numbers: Sequence[int]) -> tuple[dict[int, NDArray[np.bool_]], str]:
    """Fill the closed contours of some ROIs on an image's grid.

    A voxel is inside if its centre is. In one plane, a contour within another one is a hole, contours that overlap
    in part are joined, and CLOSEDPLANAR_XOR contours are combined even-odd.

    Args:
        path: the RTSTRUCT object.
        geometry: the image's grid.
        numbers: the ROIs, by ROINumber (3006,0022).

    Returns:
        Mask (i, j, k) by ROINumber, in the order of ``numbers``; and what was interpolated, in words.

    Raises:
        DicomError: contours are not in the image's slices, or all lie outside of it.
    """
    contours = _read_contours(read_dataset(path))
    masks, sparse_rois = {}, []
    for number in numbers:
        masks[number] = fill_contours(contours.get(number, []), geometry)
        interpolated = interpolate_sparse_slices(masks[number])
        sparse_rois += [] if interpolated is masks[number] else [number]
        masks[number] = interpolated
    remedy = (
        f"contours only in every other slice or fewer: {len(sparse_rois)} ROI(s) interpolated between"
        if sparse_rois
        else ""
    )
    return masks, remedy


def fill_contours(contours: Sequence[Contour], geometry: Geometry) -> NDArray[np.bool_]:
    """Fill contours on a grid; a contour between two slices counts for the nearer one.

    Args:
        contours: of one ROI.
        geometry: the image's grid.

    Returns:
        Mask (i, j, k), bool.

    Raises:
        DicomError: a contour runs through several slices, or all lie outside of the image.
    """
    mask = np.zeros(geometry.size, dtype=np.bool_)
    planes: dict[float, list[tuple[NDArray[np.float64], bool]]] = {}
    for contour in contours:
        index = geometry.to_index(contour.points)
        if np.ptp(index[:, 2]) > 0.5:
            raise DicomError(
                f"a contour runs through {np.ptp(index[:, 2]):.1f} slices; only contours within a slice can be filled",
                where=CONTOUR_DATA,
            )
        plane = round(float(index[:, 2].mean()) / SAME_PLANE) * SAME_PLANE
        planes.setdefault(plane, []).append((index[:, :2], contour.exclusive))
    plane_by_slice = _choose_planes(planes, geometry.size[2])
    if planes and not plane_by_slice:
        raise DicomError("all contours lie outside of the image", where=CONTOUR_DATA)
    for k, plane in plane_by_slice.items():
        filled = [(fill_outline(outline, geometry.size[:2]), exclusive) for outline, exclusive in planes[plane]]
        mask[:, :, k] = _combine_contours(filled)
    return mask


def interpolate_sparse_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the slices between, where an ROI is drawn in every nth slice alone, by signed distances to its outline.

    Args:
        mask: (i, j, k).

    Returns:
        The mask with the slices between filled; the very array where nothing had to be.
    """
    from scipy.ndimage import distance_transform_edt

    drawn_slices = np.flatnonzero(mask.any(axis=(0, 1)))
    gaps = np.diff(drawn_slices)
    if len(drawn_slices) < 3 or gaps.min() < 2 or gaps.max() > gaps.min():
        return mask
    depth = [distance_transform_edt(mask[:, :, k]) - distance_transform_edt(~mask[:, :, k]) for k in drawn_slices]
    interpolated = mask.copy()
    for n, gap in enumerate(gaps):
        for step in range(1, int(gap)):
            share = step / gap
            interpolated[:, :, drawn_slices[n] + step] = (1 - share) * depth[n] + share * depth[n + 1] > 0
    return interpolated


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
    toggles = np.zeros((size[0] + 1, size[1]), dtype=np.int32)
    low = np.ceil(np.minimum(start[:, 1], end[:, 1])).astype(int).clip(0, size[1])
    high = np.ceil(np.maximum(start[:, 1], end[:, 1])).astype(int).clip(0, size[1])
    for edge in np.flatnonzero(high > low):
        # Rows j that this edge crosses; everything to the right of the crossing changes sides.
        rows = np.arange(low[edge], high[edge])
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        crossing = start[edge, 0] + (rows - start[edge, 1]) * slope
        np.add.at(toggles, (np.ceil(crossing).astype(int).clip(0, size[0]), rows), 1)
    return np.asarray(np.cumsum(toggles[:-1], axis=0) % 2 == 1)


def _choose_planes(planes: Iterable[float], slices: int) -> dict[int, float]:
    """Which plane of contours each slice takes, where several lie within one slice."""
    plane_by_slice: dict[int, float] = {}
    for plane in planes:
        k = round(plane)
        if 0 <= k < slices and (k not in plane_by_slice or abs(plane - k) < abs(plane_by_slice[k] - k)):
            plane_by_slice[k] = plane
    return plane_by_slice


def _read_contours(dataset: Dataset) -> dict[int, list[Contour]]:
    """Closed contours by ROI number."""
    contours: dict[int, list[Contour]] = {}
    for roi in dataset.get("ROIContourSequence") or []:
        for contour in roi.get("ContourSequence") or []:
            kind = str(contour.get("ContourGeometricType", ""))
            if kind in CLOSED:
                points = np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
                if not np.isfinite(points).all():
                    raise DicomError("a contour's points are no finite numbers", where=CONTOUR_DATA)
                if len(points) >= 3:
                    contours.setdefault(int(roi.ReferencedROINumber), []).append(Contour(points, kind == CLOSED[1]))
    return contours
