"""Owns reading RTSTRUCT: closed planar contours filled onto their image's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.geometry import Geometry

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
CONTOUR_DATA = "(3006,0050)"
# Contours within this share of a slice are drawn in one plane.
SAME_PLANE = 0.1


def read_rois(path: Path, geometry: Geometry, numbers: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
    """Fill the closed contours of some ROIs on an image's grid.

    A voxel is inside if its centre is; contours of one ROI in one plane are combined even-odd, so that a contour
    within another one is a hole.

    Args:
        path: the RTSTRUCT object.
        geometry: the image's grid.
        numbers: the ROIs, by ROINumber (3006,0022).

    Returns:
        Mask (i, j, k) by ROINumber, in the order of ``numbers``.

    Raises:
        DicomError: contours are not in the image's slices, or all lie outside of it.
    """
    contours = _contours(read_dataset(path))
    return {number: fill(contours.get(number, []), geometry) for number in numbers}


def fill(contours: Sequence[NDArray[np.float64]], geometry: Geometry) -> NDArray[np.bool_]:
    """Fill contours, each (points, 3) in mm, LPS; gives a mask (i, j, k)."""
    mask = np.zeros(geometry.size, dtype=np.bool_)
    planes: dict[float, list[NDArray[np.float64]]] = {}
    for contour in contours:
        index = geometry.to_index(contour)
        if np.ptp(index[:, 2]) > 0.5:
            raise DicomError(
                f"a contour runs through {np.ptp(index[:, 2]):.1f} slices; only contours within a slice can be filled",
                where=CONTOUR_DATA,
            )
        planes.setdefault(round(float(index[:, 2].mean()) / SAME_PLANE) * SAME_PLANE, []).append(index[:, :2])
    chosen = _nearest_plane(planes, geometry.size[2])
    if planes and not chosen:
        raise DicomError("all contours lie outside of the image", where=CONTOUR_DATA)
    for k, plane in chosen.items():
        for outline in planes[plane]:
            mask[:, :, k] ^= fill_outline(outline, geometry.size[:2])
    return mask


def fill_outline(outline: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd fill of one closed outline.

    Args:
        outline: (points, 2), voxel indices (i, j); pixel centres are whole numbers.
        size: of the mask, (i, j).

    Returns:
        Mask (i, j). A centre that lies on the outline counts for one of the two sides, always the same one.
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


def _nearest_plane(planes: dict[float, list[NDArray[np.float64]]], slices: int) -> dict[int, float]:
    """Which plane of contours each slice takes, where several lie within one slice."""
    chosen: dict[int, float] = {}
    for plane in planes:
        k = round(plane)
        if 0 <= k < slices and (k not in chosen or abs(plane - k) < abs(chosen[k] - k)):
            chosen[k] = plane
    return chosen


def _contours(dataset: Dataset) -> dict[int, list[NDArray[np.float64]]]:
    """Closed contours, each (points, 3) in mm, by ROI number."""
    found: dict[int, list[NDArray[np.float64]]] = {}
    for roi in dataset.get("ROIContourSequence") or []:
        for contour in roi.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType", "")) in CLOSED:
                points = np.asarray(contour.ContourData, dtype=np.float64).reshape(-1, 3)
                if len(points) >= 3:
                    found.setdefault(int(roi.ReferencedROINumber), []).append(points)
    return found
