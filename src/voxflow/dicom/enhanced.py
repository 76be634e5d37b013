"""Owns the functional groups of multi-frame objects: where each frame lies and how it is scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.dicom.headers import Plane
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def find_functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """The first item of a functional group, the frame's own or the one that all frames share."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            sequence = group.get(keyword)
            if sequence:
                first: Dataset = sequence[0]
                return first
    return None


def read_frame_planes(dataset: Dataset) -> list[Plane]:
    """Where each frame lies; values that are not there are empty, and the grid check names them.

    Raises:
        DicomError: the object describes fewer frames than it says to hold.
    """
    frames, described = int(dataset.NumberOfFrames), len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if not 1 <= frames <= max(1, described):
        raise DicomError(f"says to hold {frames} frames and describes {described}", where="(0028,0008)")
    return [_read_plane(dataset, frame) for frame in range(frames)]


def read_frame_rescales(dataset: Dataset) -> list[tuple[float, float]]:
    """RescaleSlope and RescaleIntercept of each frame, or of the whole object; 1 and 0 where there are none."""
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    whole = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    out = []
    for frame in range(int(dataset.NumberOfFrames)):
        item = find_functional_group(dataset, frame, "PixelValueTransformationSequence")
        out.append((float(item.RescaleSlope), float(item.RescaleIntercept)) if item is not None else whole)
    return out


def _read_plane(dataset: Dataset, frame: int) -> Plane:
    return Plane(
        position=_read_numbers(dataset, frame, "PlanePositionSequence", "ImagePositionPatient"),
        orientation=_read_numbers(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient"),
        spacing=_read_numbers(dataset, frame, "PixelMeasuresSequence", "PixelSpacing"),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
    )


def _read_numbers(dataset: Dataset, frame: int, group: str, keyword: str) -> tuple[float, ...]:
    item = find_functional_group(dataset, frame, group)
    return tuple(float(value) for value in (item.get(keyword) if item is not None else None) or ())
