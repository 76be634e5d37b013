"""Where each frame of a multi-frame object lies and how it is scaled, from its functional groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.dicom.headers import Plane
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def find_functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Find the first item of a functional group: the frame's own, or the one that all frames share.

    Args:
        dataset: an enhanced multi-frame object.
        frame: its number, from 0.
        keyword: of the functional group's sequence, such as "PlanePositionSequence".

    Returns:
        The item; None where the object has no such group for the frame.
    """
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
    """Read where each frame of an enhanced object lies, from PlanePositionSequence (0020,9113) and its kin.

    Returns:
        One plane a frame, in the order of the frames. Values that are missing are empty; the grid check names them.

    Raises:
        DicomError: the object describes fewer frames than NumberOfFrames (0028,0008) states.
    """
    frames, described = int(dataset.NumberOfFrames), len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if not 1 <= frames <= max(1, described):
        raise DicomError(f"says to hold {frames} frames and describes {described}", where="(0028,0008)")
    return [_read_plane(dataset, frame) for frame in range(frames)]


def read_frame_rescales(dataset: Dataset) -> list[tuple[float, float]]:
    """Read the slope and intercept of each frame of an enhanced object.

    Returns:
        RescaleSlope (0028,1053) and RescaleIntercept (0028,1052) of each frame, from PixelValueTransformationSequence
        (0028,9145), else those of the whole object; 1 and 0 where there are none.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    object_rescale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    rescales = []
    for frame in range(int(dataset.NumberOfFrames)):
        item = find_functional_group(dataset, frame, "PixelValueTransformationSequence")
        rescales.append(
            (float(item.RescaleSlope), float(item.RescaleIntercept)) if item is not None else object_rescale
        )
    return rescales


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
