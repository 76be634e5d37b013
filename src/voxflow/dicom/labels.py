"""Label objects (DICOM SEG and RTSTRUCT): what they name, their images, and the one label volume of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.dicom.headers import PARSE_ERRORS, RT_STRUCTURE_SET, explain_parse_error, read_dataset
from voxflow.dicom.references import (
    BY_FRAME_OF_REFERENCE,
    ImageIndex,
    References,
    read_roi_references,
    read_segment_references,
)
from voxflow.dicom.rtstruct import StructureSet, count_nameless_contours, list_contours
from voxflow.dicom.seg import Segmentation
from voxflow.errors import DicomError, join_names
from voxflow.layouts import IGNORE, IGNORE_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.label_grid import LabelGrid, LabelMask
    from voxflow.dicom.options import ConvertOptions


# PS3.5 6.2, LO: names of segments and ROIs reach the tables. Of more labels than these, nobody drew any.
LONGEST_NAME, MAX_LABELS = 64, 1024
MOST_REASONS = 20
_OVERLAP_RULES = {
    "last": "the last by number counts",
    "first": "the first by number counts",
    "listed": "the last as listed counts",
    "channels": "each is whole in its channel, and the last by number counts in the label volume",
    "regions": "each is whole in its region",
}


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


@dataclass(frozen=True)
class LabelOutcome:
    """What became of one label object in the label volume of an image.

    Attributes:
        label: the object.
        is_usable: whether anything of it is in the volume.
        problem: what of it could not be used, and why; empty where all could.
        remedy: how it came onto the image's grid, where it was not drawn on it.
        remark: what else the user should know.
    """

    label: LabelObject
    is_usable: bool
    problem: str = ""
    remedy: str = ""
    remark: str = ""


@dataclass(frozen=True)
class MergedLabels:
    """The one label volume of an image, and what became of each label object.

    Attributes:
        array: labels (i, j, k).
        channels: where ``overlap`` is "channels" or "regions", the whole mask (i, j, k) of each label value.
        outcomes: of each object, in the order in which they count.
        labelled: the values of the classes that someone labelled here, be they empty.
    """

    array: NDArray[np.uint8] | NDArray[np.uint16]
    channels: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    outcomes: list[LabelOutcome] = field(default_factory=list)
    labelled: set[int] = field(default_factory=set)


def merge_labels(
    shares: Sequence[LabelShare], grid: LabelGrid, values: Mapping[str, int], options: ConvertOptions
) -> MergedLabels:
    """Make one label volume of all label objects of an image.

    The objects count in the order of their numbers (:attr:`LabelObject.order`), and their segments or ROIs in that of
    theirs. Where they overlap, ``options.overlap`` says which one counts: the last or the first of that order, or the
    one that ``labels`` names last. With "channels" the last counts here, and each label is kept whole beside it.
    One name in two objects is one label where they share no voxel, or all; else the first object's counts.
    What is called "ignore" is no class: it is painted last, over everything.
    """
    fits_8_bits = max(values.values(), default=0) < 256
    size = grid.geometry.size
    merged = MergedLabels(np.zeros(size, np.uint8) if fits_8_bits else np.zeros(size, np.uint16))
    if options.overlap in ("channels", "regions"):
        # Of every label, drawn here or not, so that all cases have the same channels.
        merged.channels.update({n: np.zeros(size, np.bool_) for n in sorted({*values.values()} - {values.get(IGNORE)})})
    drawings = [
        _Drawing(share, grid, values, resample=options.label_grid == "resample")
        for share in sorted(shares, key=lambda share: share.label.order)
    ]
    order = [(drawing, number) for drawing in drawings for number in drawing.numbers]
    if options.overlap == "listed":
        name_order = list(values)
        order.sort(key=lambda entry: name_order.index(entry[0].names[entry[1]]))
    order.sort(key=lambda entry: entry[0].names[entry[1]] == IGNORE)
    painter = _Painter(merged, options.overlap, _find_repeated_names(drawings))
    for drawing, number in order:
        mask = drawing.read(number)
        if mask is not None:
            painter.paint(drawing, number, mask, values[drawing.names[number]])
    merged.outcomes.extend(drawing.conclude(_OVERLAP_RULES[options.overlap]) for drawing in drawings)
    return merged


class _Drawing:
    """One label object while its masks are read, and what became of each."""

    def __init__(self, share: LabelShare, grid: LabelGrid, values: Mapping[str, int], *, resample: bool) -> None:
        self.share, self.grid, self._resample = share, grid, resample
        self.names = {
            n: share.label.names[n].casefold() for n in share.items if share.label.names[n].casefold() in values
        }
        self.numbers = sorted(self.names)
        self.problems: dict[int, str] = {}
        self.overlapping_voxels = 0
        self._remedies: dict[int, str] = {}
        self._remarks: dict[int, str] = {}
        self._reader: StructureSet | Segmentation | None = None
        self._fault = ""
        self._has_voxels = False

    def read(self, number: int) -> LabelMask | None:
        """The mask of a segment or ROI; None, and a problem, where it can't be read."""
        try:
            mask = self._open().read_mask(number, self.share.items[number], self.grid)
        except DicomError as error:
            self.problems[number] = str(error)
            return None
        except PARSE_ERRORS as error:
            self.problems[number] = explain_parse_error(error)
            return None
        self._remedies[number], self._remarks[number] = mask.remedy, mask.remark
        self._has_voxels |= bool(mask.array.any())
        return mask

    def note(self, number: int, remark: str) -> None:
        """Add a remark about a segment or ROI."""
        self._remarks[number] = ", ".join(text for text in (self._remarks.get(number, ""), remark) if text)

    def conclude(self, overlap_rule: str) -> LabelOutcome:
        """Put into words what became of the object."""
        label = self.share.label
        # A segment may be empty, but a structure set that encloses nothing does not say that there is nothing.
        if label.kind == "rtstruct" and not self._has_voxels:
            self.problems = self._remarks | self.problems
        problem = label.describe_numbers(self.problems, self.numbers) if self.problems else ""
        if len(self.problems) == len(self.numbers):
            return LabelOutcome(label, is_usable=False, problem=problem)
        repeated = [name for name in dict.fromkeys(self.names.values()) if list(self.names.values()).count(name) > 1]
        remarks = {number: remark for number, remark in self._remarks.items() if remark}
        texts = [
            self.share.remark,
            f"{self.overlapping_voxels} voxels lie in several segments: {overlap_rule}"
            if self.overlapping_voxels
            else "",
            f"several of one name are one label: {join_names(repeated)}" if repeated else "",
            label.describe_numbers(remarks, []) if remarks else "",
        ]
        remedy = "; ".join(dict.fromkeys(text for text in self._remedies.values() if text))
        return LabelOutcome(label, True, problem, remedy, "; ".join(text for text in texts if text))

    def _open(self) -> StructureSet | Segmentation:
        if self._fault:
            raise DicomError(self._fault)
        if self._reader is None:
            label = self.share.label
            try:
                if label.kind == "rtstruct":
                    self._reader = StructureSet(label.path)
                else:
                    self._reader = Segmentation(label.path, self.share.items, resample=self._resample)
            except DicomError as error:
                self._fault = str(error)
                raise
        return self._reader


class _Painter:
    """Paints masks into the label volume, one after the other, and counts where they overlap."""

    def __init__(self, merged: MergedLabels, overlap: str, repeated_names: set[str]) -> None:
        self._merged, self._keeps_first = merged, overlap == "first"
        self._covered = np.zeros(merged.array.shape, dtype=np.bool_)
        self._by_name: dict[str, list[tuple[_Drawing, NDArray[np.bool_]]]] = {name: [] for name in repeated_names}

    def paint(self, drawing: _Drawing, number: int, label_mask: LabelMask, value: int) -> None:
        """Paint one mask, unless another object has that label there already."""
        mask, array = label_mask.array, self._merged.array
        problem = self._compare_with_other_objects(drawing, number, mask)
        if problem:
            drawing.problems[number] = problem
            return
        if drawing.names[number] == IGNORE:
            array[mask] = value
            drawing.note(number, f"{int(mask.sum())} voxels are not labelled (ignore)")
            return
        # An empty segment says that nothing is there; a structure set without a voxel does not.
        if drawing.share.label.kind == "seg" or mask.any():
            self._merged.labelled.add(value)
        drawing.overlapping_voxels += int((self._covered & mask & (array != value)).sum())
        array[mask & ~self._covered if self._keeps_first else mask] = value
        self._covered |= mask
        if self._merged.channels:
            self._merged.channels[value] |= mask

    def _compare_with_other_objects(self, drawing: _Drawing, number: int, mask: NDArray[np.bool_]) -> str:
        """Why a label of a name that another object has too can't be used; empty where it can."""
        name = drawing.names[number]
        if name not in self._by_name:
            return ""
        earlier = np.zeros_like(mask)
        for painted_drawing, painted in self._by_name[name]:
            if painted_drawing is not drawing:
                earlier |= painted
        shared, union = int((earlier & mask).sum()), int((earlier | mask).sum())
        if shared and shared < union:
            return (
                f"already labelled by another object of the same image, and differs: {shared} of {union} voxels are in "
                f"both. Leave one of the two out of the source, or give them different names"
            )
        if shared:
            drawing.note(number, "equal to the label of that name in another object")
        self._by_name[name].append((drawing, mask))
        return ""


def _find_repeated_names(drawings: Sequence[_Drawing]) -> set[str]:
    """The names that several objects have."""
    names = [name for drawing in drawings for name in set(drawing.names.values())]
    return {name for name in names if names.count(name) > 1}


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
