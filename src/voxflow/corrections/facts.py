"""What a DICOM SEG or RTSTRUCT says of itself: what it refers to, what its segments are, who made it and when.

Names of people stay in memory: what is written of an author is a keyed digest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.dicom import read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

UID = re.compile(r"[0-9.]{1,64}")
AUTOMATIC = "AUTOMATIC"
# Pairs of date and time that say when an object was made; the first that is there counts.
MOMENTS = (
    ("ContentDate", "ContentTime"),
    ("StructureSetDate", "StructureSetTime"),
    ("InstanceCreationDate", "InstanceCreationTime"),
    ("SeriesDate", "SeriesTime"),
)
PERSONS = ("ContentCreatorName", "ReviewerName", "OperatorsName")


@dataclass(frozen=True)
class Segment:
    """One segment or ROI.

    Attributes:
        number: SegmentNumber (0062,0004) or ROINumber (3006,0022).
        label: SegmentLabel (0062,0005) or ROIName (3006,0026).
        code: value and scheme of its coded type (0062,000F); empty where it has none.
        algorithm_type: (0062,0008) or (3006,0036): AUTOMATIC, SEMIAUTOMATIC, MANUAL or empty.
        algorithm: (0062,0009).
    """

    number: int
    label: str
    code: tuple[str, str] | None = None
    algorithm_type: str = ""
    algorithm: str = ""


@dataclass(frozen=True)
class ObjectFacts:
    """A label object without its masks.

    Attributes:
        path: the file.
        kind: "SEG" or "RTSTRUCT".
        sop_uid, series_uid, study_uid: its own UIDs.
        images: every SOPInstanceUID that it refers to.
        series: every SeriesInstanceUID that it refers to.
        frames_of_reference: FrameOfReferenceUID (0020,0052) of what it is drawn in.
        segments: its segments or ROIs.
        manufacturer: (0008,0070).
        description: SeriesDescription (0008,103E).
        person: who made or reviewed it; never written.
        moment: when it was made, YYYYMMDDHHMMSS; empty where it does not say.
        is_rejected: ApprovalStatus (300E,0002) is REJECTED.
        digest: SHA-256 of the file.
    """

    path: Path
    kind: str
    sop_uid: str
    series_uid: str
    study_uid: str
    images: frozenset[str]
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    segments: tuple[Segment, ...]
    manufacturer: str
    description: str
    person: str
    moment: str
    is_rejected: bool
    digest: str

    @property
    def is_automatic(self) -> bool:
        """Whether it says of everything in it that no person had a part in it."""
        return bool(self.segments) and all(segment.algorithm_type == AUTOMATIC for segment in self.segments)


def read_facts(path: Path) -> ObjectFacts:
    """Read what a label object says of itself.

    Raises:
        DicomError: it is no DICOM, or a UID of it is none.
    """
    dataset = read_dataset(path)
    uids = {name: str(dataset.get(f"{name}InstanceUID") or "") for name in ("SOP", "Series", "Study")}
    for name, uid in uids.items():
        if not UID.fullmatch(uid):
            raise DicomError(f"its {name}InstanceUID is none", path=path)
    images, series = _list_references(dataset)
    is_rtstruct = "StructureSetROISequence" in dataset
    frames = {str(dataset.get("FrameOfReferenceUID") or "")}
    frames |= {
        str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in dataset.get("StructureSetROISequence") or []
    }
    return ObjectFacts(
        path=path,
        kind="RTSTRUCT" if is_rtstruct else "SEG",
        sop_uid=uids["SOP"],
        series_uid=uids["Series"],
        study_uid=uids["Study"],
        images=images,
        series=series,
        frames_of_reference=frozenset(frames - {""}),
        segments=tuple(_list_rois(dataset) if is_rtstruct else _list_segments(dataset)),
        manufacturer=_read_text(dataset, "Manufacturer"),
        description=_read_text(dataset, "SeriesDescription"),
        person=_find_person(dataset),
        moment=_find_moment(dataset),
        is_rejected=_read_text(dataset, "ApprovalStatus").upper() == "REJECTED",
        digest=digest_file(path),
    )


def digest_file(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _list_references(dataset: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    """The objects and the series that are named anywhere in it, however deep."""
    images, series = set(), set()
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            images.add(str(element.value))
    for item in _walk_items(dataset):
        for keyword in ("SeriesInstanceUID", "RelatedSeriesInstanceUID"):
            if item.get(keyword):
                series.add(str(item.get(keyword)))
    return frozenset(images), frozenset(series)


def _walk_items(dataset: Dataset) -> Iterator[Dataset]:
    """The items of all sequences but those of single frames, which name no series."""
    for element in dataset:
        if element.VR == "SQ" and element.keyword != "PerFrameFunctionalGroupsSequence":
            for item in element.value or []:
                yield item
                yield from _walk_items(item)


def _list_segments(dataset: Dataset) -> Iterator[Segment]:
    is_label_map = _read_text(dataset, "SegmentationType") == "LABELMAP"
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.SegmentNumber)
        if number > 0 or not is_label_map:
            yield Segment(
                number,
                _read_text(item, "SegmentLabel"),
                _read_code(item.get("SegmentedPropertyTypeCodeSequence") or []),
                _read_text(item, "SegmentAlgorithmType").upper(),
                _read_text(item, "SegmentAlgorithmName"),
            )


def _list_rois(dataset: Dataset) -> Iterator[Segment]:
    codes = {
        int(item.ReferencedROINumber): _read_code(item.get("RTROIIdentificationCodeSequence") or [])
        for item in dataset.get("RTROIObservationsSequence") or []
        if item.get("ReferencedROINumber") is not None
    }
    for item in dataset.get("StructureSetROISequence") or []:
        number = int(item.ROINumber)
        kind = _read_text(item, "ROIGenerationAlgorithm").upper()
        yield Segment(number, _read_text(item, "ROIName"), codes.get(number), kind)


def _read_code(items: Iterable[Dataset]) -> tuple[str, str] | None:
    for item in items:
        value, scheme = _read_text(item, "CodeValue"), _read_text(item, "CodingSchemeDesignator")
        if value:
            return value, scheme
    return None


def _find_person(dataset: Dataset) -> str:
    names = [_read_text(dataset, keyword) for keyword in PERSONS]
    names += [_read_text(item, "ROIInterpreter") for item in dataset.get("RTROIObservationsSequence") or []]
    return next((name for name in names if name.strip("^ ")), "")


def _find_moment(dataset: Dataset) -> str:
    for date, time in MOMENTS:
        day = re.sub(r"\D", "", _read_text(dataset, date))[:8]
        if len(day) == 8:
            return day + re.sub(r"[^\d.]", "", _read_text(dataset, time)).partition(".")[0].ljust(6, "0")[:6]
    return ""


def _read_text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()
