"""Where each frame of a multi-frame object lies and how it is scaled, from its functional groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.dicom.headers import Plane
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


# PS3.3 C.7.6.16.2.9: the first three stand in PixelValueTransformationSequence (0028,9145). Padding belongs to the top
# level; writers that state it for each frame have no other place for it than beside the rescale.
TRANSFORMED = ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit")
FRAME_TYPE_GROUPS = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")


def find_functional_group(dataset: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Find the first item of a functional group: the frame's own, or the one that all frames share.

    Args:
        dataset: an enhanced multi-frame object.
        frame: its number, from 0.
        keyword: of the functional group's sequence, such as "PlanePositionSequence".

    Returns:
        The item; None where the object has no such group for the frame.
    """
    items = find_functional_groups(dataset, frame, keyword)
    return items[0] if items else None


def find_functional_groups(dataset: Dataset, frame: int, keyword: str) -> list[Dataset]:
    """Find all items of a functional group, as :func:`find_functional_group` finds the first."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            sequence = group.get(keyword)
            if sequence:
                return list(sequence)
    return []


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


class FrameAttributes:
    """What an enhanced object says of one frame: the frame's functional groups, then those of all, then the top level.

    So a frame reads as the header of a single-frame object does, by the same keywords.

    Args:
        dataset: a multi-frame object.
        frame: its number, from 0.
        top_level: what was found at the top level, to look it up once for all frames.
    """

    def __init__(self, dataset: Dataset, frame: int, top_level: dict[str, Any] | None = None) -> None:
        self.dataset = dataset
        self.frame = frame
        self.top_level = {} if top_level is None else top_level
        self._groups: dict[str, Dataset | None] = {}

    def get(self, keyword: str, /) -> Any:
        """Give the value of an attribute; None where neither a group nor the object has it."""
        if keyword == "ImageType":
            frame_types = [self._find_in_group(group, "FrameType") for group in FRAME_TYPE_GROUPS]
            return next((value for value in frame_types if value), self._find_at_top(keyword))
        if keyword == "RealWorldValueMappingSequence":
            return find_functional_groups(self.dataset, self.frame, keyword) or self._find_at_top(keyword)
        value = None
        if keyword == "AcquisitionDateTime":
            value = self._find_in_group("FrameContentSequence", "FrameAcquisitionDateTime")
        if keyword in TRANSFORMED:
            value = self._find_in_group("PixelValueTransformationSequence", keyword)
        return self._find_at_top(keyword) if value is None else value

    def _find_at_top(self, keyword: str) -> Any:
        if keyword not in self.top_level:
            self.top_level[keyword] = self.dataset.get(keyword)
        return self.top_level[keyword]

    def _find_in_group(self, group: str, keyword: str) -> Any:
        if group not in self._groups:
            self._groups[group] = find_functional_group(self.dataset, self.frame, group)
        item = self._groups[group]
        return None if item is None else item.get(keyword)


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
