"""Label objects (DICOM SEG and RTSTRUCT): what they name, and which images they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from voxflow.dicom.headers import RT_STRUCTURE_SET, read_dataset
from voxflow.dicom.references import (
    BY_FRAME_OF_REFERENCE,
    ImageIndex,
    References,
    read_roi_references,
    read_segment_references,
)
from voxflow.dicom.rtstruct import count_nameless_contours, list_contours
from voxflow.errors import DicomError, join_names
from voxflow.layouts import IGNORE, IGNORE_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart


# PS3.5 6.2, LO: names of segments and ROIs reach the tables. Of more labels than these, nobody drew any.
LONGEST_NAME, MAX_LABELS = 64, 1024
MOST_REASONS = 20


@dataclass(frozen=True)
class LabelObject:
    """A DICOM SEG or RTSTRUCT, without its masks.

    Attributes:
        path: the file.
        kind: which of the two.
        names: name by segment number or ROI number, ascending.
        patient: as :attr:`DicomHeader.patient`.
        patient_id: PatientID (0010,0020).
        sop_uid, series_uid, study_uid: its own UIDs.
        order: where it stands among the label objects of one image: by SeriesNumber (0020,0011), InstanceNumber
            (0020,0013) and SOPInstanceUID.
        references: what each of them refers to, by number.
        problems: why some of them can't be used, by number.
        remark: what the user should know of the object as a whole.
    """

    path: Path
    kind: Literal["seg", "rtstruct"]
    names: dict[int, str]
    patient: str
    patient_id: str
    sop_uid: str
    series_uid: str
    study_uid: str
    order: tuple[int, int, str]
    references: dict[int, References] = field(repr=False)
    problems: dict[int, str] = field(default_factory=dict)
    remark: str = ""

    def describe_numbers(self, reason_by_number: Mapping[int, str], chosen: Iterable[int]) -> str:
        """Say why some segments or ROIs can't be used, by number and name; one reason once, and alone if of all."""
        numbers_by_reason: dict[str, list[int]] = {}
        for number, reason in reason_by_number.items():
            numbers_by_reason.setdefault(reason, []).append(number)
        noun = "ROI" if self.kind == "rtstruct" else "segment"
        texts = [
            reason
            if len(self.names) > 1 and numbers == sorted(chosen) and len(numbers) > 1
            else f"{noun} {join_names([f'{number} ({self.names[number]})' for number in numbers], most=5)}: {reason}"
            for reason, numbers in numbers_by_reason.items()
        ]
        more = f"; and {len(texts) - MOST_REASONS} more reasons" if len(texts) > MOST_REASONS else ""
        return "; ".join(texts[:MOST_REASONS]) + more


@dataclass(frozen=True)
class LabelShare:
    """What of a label object belongs to one volume.

    Attributes:
        label: the object.
        items: the frames of each segment, or the contours of each ROI, that belong to the volume, by number.
        remark: how the volume was found, where that is a weaker claim.
    """

    label: LabelObject
    items: Mapping[int, frozenset[int]]
    remark: str = ""


def read_label_object(part: SeriesPart) -> LabelObject:
    """Read what a label object names and refers to, without its masks.

    Raises:
        DicomError: it names no segment or ROI, or two of one number.
    """
    header = part.first
    dataset = read_dataset(header.path)
    is_rtstruct = header.sop_class == RT_STRUCTURE_SET
    where = "(3006,0020)" if is_rtstruct else "(0062,0002)"
    pairs = sorted(_read_roi_names(dataset) if is_rtstruct else _read_segment_names(dataset))
    names = dict(pairs)
    noun = "ROI" if is_rtstruct else "segment"
    if len(pairs) > MAX_LABELS:
        raise DicomError(f"it names {len(pairs)} {noun}s, at most {MAX_LABELS} are taken", where=where)
    long_names = {number: len(name) for number, name in names.items() if len(name) > LONGEST_NAME}
    names |= {number: f"{noun} {number}" for number in long_names}
    if not names:
        raise DicomError(f"no {noun} is named", where=where)
    if len(names) < len(pairs):
        raise DicomError(f"several of its {noun}s have one number", where=where)
    references = (
        read_roi_references(dataset, {number: list(list_contours(dataset, number)) for number in names})
        if is_rtstruct
        else read_segment_references(dataset, names)
    )
    nameless = count_nameless_contours(dataset, names)
    return LabelObject(
        path=header.path,
        kind="rtstruct" if is_rtstruct else "seg",
        names=names,
        patient=header.patient,
        patient_id=header.patient_id,
        sop_uid=header.sop_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        order=(_read_count(dataset, "SeriesNumber"), _read_count(dataset, "InstanceNumber"), header.sop_uid),
        references=references,
        problems={
            number: f"{where}: its name has {count} characters, at most {LONGEST_NAME} are allowed"
            for number, count in long_names.items()
        },
        remark=f"{nameless} contour(s) of an ROI without a name are left out" if nameless else "",
    )


def match_label(
    label: LabelObject, images: ImageIndex, chosen: Iterable[int]
) -> tuple[dict[int, LabelShare], dict[int, str]]:
    """Find the parts that a label object belongs to.

    Args:
        label: the object.
        images: all parts that hold images, converted or not.
        chosen: numbers of the segments or ROIs that count.

    Returns:
        What belongs to each part, by the part's place among ``images.parts``; and why a segment or ROI belongs to
        none, by its number.
    """
    usable = {number: label.references[number] for number in chosen if number not in label.problems}
    ownership = images.assign_owners(usable, label.patient)
    shares = {}
    for part, numbers in ownership.items.items():
        remarks = [
            label.remark,
            BY_FRAME_OF_REFERENCE if part in ownership.by_frame_of_reference else "",
            _compare_frames_of_reference(label, numbers, images.parts[part]),
            _describe_repeats(ownership.items, part),
        ]
        items = {number: frozenset(members) for number, members in sorted(numbers.items())}
        shares[part] = LabelShare(label, items, "; ".join(text for text in remarks if text))
    return shares, ownership.problems | {n: label.problems[n] for n in chosen if n in label.problems}


def _describe_repeats(items_by_part: Mapping[int, Mapping[int, set[int]]], part: int) -> str:
    """What to say where frames or contours of one part belong to others, too."""
    count = sum(
        any(not members.isdisjoint(numbers.get(number, ())) for number, members in items_by_part[part].items())
        for numbers in items_by_part.values()
    )
    return f"it refers to {count} volumes, and labels each" if count > 1 else ""


def _compare_frames_of_reference(label: LabelObject, numbers: Iterable[int], part: SeriesPart) -> str:
    """What to say where a label is drawn in another frame of reference than the image that it refers to."""
    frames = frozenset[str]().union(*(label.references[number].frames_of_reference for number in numbers))
    is_other = bool(frames and part.first.frame_of_reference and part.first.frame_of_reference not in frames)
    return "its frame of reference (0020,0052) is another than that of the image that it refers to" if is_other else ""


def assign_label_values(names: Iterable[str], configured_values: Mapping[str, int] | None) -> dict[str, int]:
    """Assign a voxel value to each label name.

    Args:
        names: of the segments and ROIs of all cases.
        configured_values: the option ``labels``; None numbers the sorted names from 1.

    Returns:
        Value by case-folded name; that of "ignore", which is no class, is the highest.

    Example:
        >>> assign_label_values(["Spleen", "liver", "spleen"], None)
        {'liver': 1, 'spleen': 2}
        >>> assign_label_values(["Spleen", "liver"], {"Spleen": 7})
        {'spleen': 7}
    """
    if configured_values is not None:
        return {name.casefold(): value for name, value in configured_values.items()}
    folded = sorted({name.casefold() for name in names})
    values = {name: number for number, name in enumerate((name for name in folded if name != IGNORE), start=1)}
    return values | ({IGNORE: max(IGNORE_VALUE, len(values) + 1)} if IGNORE in folded else {})


def _read_count(dataset: Dataset, keyword: str) -> int:
    """A whole number; 0 where it is missing or none, since it decides about an order alone."""
    try:
        return int(dataset.get(keyword) or 0)
    except (TypeError, ValueError):
        return 0


def _read_segment_names(dataset: Dataset) -> Iterator[tuple[int, str]]:
    is_label_map = str(dataset.get("SegmentationType", "")) == "LABELMAP"
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.SegmentNumber)
        # Number 0 of a label map is its background (PS3.3 C.8.20.2); elsewhere it breaks the rules, and is a segment.
        if number > 0 or not is_label_map:
            yield number, str(item.get("SegmentLabel") or f"segment {number}").strip()


def _read_roi_names(dataset: Dataset) -> Iterator[tuple[int, str]]:
    for item in dataset.get("StructureSetROISequence") or []:
        yield int(item.ROINumber), str(item.get("ROIName") or f"ROI {item.ROINumber}").strip()
