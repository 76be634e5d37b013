"""Reading RTSTRUCT: the contours of each ROI (PS3.3 C.8.8.6), and which of them enclose something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.contours import CONTOUR_DATA, Contour, fill_contours
from voxflow.dicom.headers import read_dataset
from voxflow.dicom.label_grid import LabelGrid, LabelMask
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

# PS3.3 C.8.8.6.1: POINT, OPEN_PLANAR and OPEN_NONPLANAR enclose nothing.
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# No patient reaches farther from the origin; what does is no coordinate in mm.
FARTHEST_MM = 1e5


class StructureSet:
    """The contours of one RTSTRUCT object."""

    def __init__(self, path: Path) -> None:
        """Read the object."""
        self._dataset = read_dataset(path)

    def read_mask(self, number: int, numbers_of_contours: Collection[int], grid: LabelGrid) -> LabelMask:
        """Fill closed contours of one ROI on an image's grid.

        A voxel is inside if its centre is. In one plane, a contour within another one is a hole, contours that overlap
        in part are joined, and CLOSEDPLANAR_XOR contours are combined even-odd.

        Args:
            number: the ROI, by ROINumber (3006,0022).
            numbers_of_contours: those that belong to the image, in the order of the object, from 0.
            grid: of the image.

        Raises:
            DicomError: contours can't be read, or all lie outside of the image.
        """
        items = [item for n, item in enumerate(list_contours(self._dataset, number)) if n in numbers_of_contours]
        closed_items = [item for item in items if str(item.get("ContourGeometricType", "")) in CLOSED]
        contours = [contour for contour in map(_read_contour, closed_items) if _has_extent(contour.points)]
        filled = fill_contours(contours, grid)
        counts = {
            "point or open contour(s) enclose nothing": len(items) - len(closed_items),
            "contour(s) of fewer than three points, or of no extent, enclose nothing": len(closed_items)
            - len(contours),
            "contour(s) lie outside of the image": filled.outside,
            "contour(s) left out, since others lie nearer to their slice": filled.unused,
            "contour(s) lie across the slices": filled.across,
        }
        remarks = [f"{count} of {len(items)} {text}" for text, count in counts.items() if count]
        if not items:
            remarks = ["no contours"]
        elif contours and not filled.mask.any():
            remarks.append("no voxel's centre lies inside")
        remarks += [filled.lost_slices] if filled.lost_slices else []
        remedy = "contours lie farther apart than slices: interpolated between" if filled.is_interpolated else ""
        return LabelMask(filled.mask, remedy, ", ".join(remarks))


def list_contours(dataset: Dataset, number: int) -> Iterator[Dataset]:
    """List the items of ContourSequence (3006,0040) of one ROI, in the order of the object."""
    for roi in dataset.get("ROIContourSequence") or []:
        if roi.get("ReferencedROINumber") == number:
            yield from roi.get("ContourSequence") or []


def count_nameless_contours(dataset: Dataset, numbers: Collection[int]) -> int:
    """Count the contours of no ROI that the object names."""
    rois = dataset.get("ROIContourSequence") or []
    return sum(len(roi.get("ContourSequence") or []) for roi in rois if roi.get("ReferencedROINumber") not in numbers)


def _read_contour(item: Dataset) -> Contour:
    try:
        points = np.asarray(item.ContourData, dtype=np.float64).reshape(-1, 3)
        # Retired, but old planning systems write it: the contour lies this far from its points.
        points = points + np.asarray(item.get("ContourOffsetVector") or (0, 0, 0), dtype=np.float64)
    except (TypeError, ValueError, AttributeError) as error:
        raise DicomError("a contour's points are no numbers in threes", where=CONTOUR_DATA) from error
    if not np.isfinite(points).all():
        raise DicomError("a contour's points are no finite numbers", where=CONTOUR_DATA)
    if np.abs(points).max(initial=0) > FARTHEST_MM:
        message = f"a contour reaches {np.abs(points).max():.3g} mm from the origin, which is no place in a patient"
        raise DicomError(message, where=CONTOUR_DATA)
    return Contour(points, item.ContourGeometricType == CLOSED[1])


def _has_extent(points: NDArray[np.float64]) -> bool:
    """Whether points (points, 3) span an area at all: three of them and not all on one line."""
    if len(points) < 3:
        return False
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] > 1e-6 * max(1.0, float(spread[0])))
