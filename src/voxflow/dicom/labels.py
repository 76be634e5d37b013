"""Label objects (DICOM SEG and RTSTRUCT): what they name, their images, and the one label volume of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.dicom.headers import PARSE_ERRORS, RT_STRUCTURE_SET, read_dataset
from voxflow.dicom.rtstruct import read_rois
from voxflow.dicom.seg import LabelMasks, read_segments
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.options import ConvertOptions
    from voxflow.geometry import Geometry


_OVERLAP_RULES = {
    "last": "the last by number counts",
    "first": "the first by number counts",
    "listed": "the last as listed counts",
    "channels": "each is whole in its channel, and the last by number counts in the label volume",
}


@dataclass(frozen=True)
class LabelObject:
    """A DICOM SEG or RTSTRUCT, without its masks.

    Attributes:
        path: the file.
        kind: which of the two.
        names: name by segment number or ROI number, ascending.
        patient: as :attr:`DicomHeader.patient`.
        sop_uid, series_uid, study_uid: its own UIDs.
        sop_refs, series_refs: UIDs of the images and series that it refers to.
        frames_of_reference: FrameOfReferenceUID (0020,0052) of those that it is drawn in.
    """

    path: Path
    kind: Literal["seg", "rtstruct"]
    names: dict[int, str]
    patient: str
    sop_uid: str
    series_uid: str
    study_uid: str
    sop_refs: frozenset[str]
    series_refs: frozenset[str]
    frames_of_reference: frozenset[str]


def read_label_object(part: SeriesPart) -> LabelObject:
    """Read what a label object names and refers to, without its masks.

    Raises:
        DicomError: it names no segment or ROI.
    """
    header = part.first
    dataset = read_dataset(header.path)
    rtstruct = header.sop_class == RT_STRUCTURE_SET
    names = dict(sorted(_read_roi_names(dataset) if rtstruct else _read_segment_names(dataset)))
    if not names:
        raise DicomError("no ROI is named" if rtstruct else "no segment is named", where="(3006,0020)")
    frames = {header.frame_of_reference} if header.frame_of_reference else set()
    series = list(_find_referenced_series(dataset))
    for item in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(str(item.get("FrameOfReferenceUID", "")))
    return LabelObject(
        path=header.path,
        kind="rtstruct" if rtstruct else "seg",
        names=names,
        patient=header.patient,
        sop_uid=header.sop_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        sop_refs=frozenset(uid for item in series for uid in _find_referenced_instances(item)),
        series_refs=frozenset(str(item.get("SeriesInstanceUID", "")) for item in series) - {""},
        frames_of_reference=frozenset(frames) - {""},
    )


def match_volumes(label: LabelObject, volumes: Sequence[SeriesPart]) -> list[SeriesPart]:
    """Find the volumes that a label object belongs to: by the images, then the series, then the frame of reference.

    A frame of reference counts only within one patient, and only where one volume has it: identity never hangs on one
    UID alone.

    Raises:
        DicomError: no volume, or several in the same frame of reference.
    """
    # The images are the strongest claim: they tell the volumes of one series apart.
    by_image = [v for v in volumes if any(header.sop_uid in label.sop_refs for header in v.headers)]
    by_series = [v for v in volumes if v.first.series_uid in label.series_refs]
    if by_image or by_series:
        return by_image or by_series
    of_patient = [v for v in volumes if v.first.patient == label.patient]
    by_frame = [v for v in of_patient if v.first.frame_of_reference in label.frames_of_reference]
    if len(by_frame) == 1:
        return by_frame
    message = "no image series here is the one that it refers to, or shares its frame of reference"
    if by_frame:
        message = f"{len(by_frame)} image series share its frame of reference, and it refers to none of them"
    raise DicomError(message, where="(0020,0052)")


def assign_label_values(names: Iterable[str], configured_values: Mapping[str, int] | None) -> dict[str, int]:
    """Assign a voxel value to each label name.

    Args:
        names: of the segments and ROIs of all cases.
        configured_values: the option ``labels``; None numbers the sorted names from 1.

    Returns:
        Value by case-folded name.

    Example:
        >>> assign_label_values(["Spleen", "liver", "spleen"], None)
        {'liver': 1, 'spleen': 2}
        >>> assign_label_values(["Spleen", "liver"], {"Spleen": 7})
        {'spleen': 7}
    """
    if configured_values is not None:
        return {name.casefold(): value for name, value in configured_values.items()}
    folded = sorted({name.casefold() for name in names})
    return {name: number for number, name in enumerate(folded, start=1)}


@dataclass(frozen=True)
class MergedLabels:
    """The one label volume of an image, and what became of each label object.

    Attributes:
        array: labels (i, j, k).
        problems: the reason by SOPInstanceUID of each object that could not be used.
        remedies: how an object came onto the image's grid, by SOPInstanceUID.
        remarks: what else the user should know, by SOPInstanceUID.
        channels: where ``overlap`` is "channels", the whole mask (i, j, k) of each label value, overlaps and all.
    """

    array: NDArray[np.uint8] | NDArray[np.uint16]
    problems: dict[str, str]
    remedies: dict[str, str]
    remarks: dict[str, str]
    channels: dict[int, NDArray[np.bool_]]


def merge_labels(
    labels: Sequence[LabelObject], geometry: Geometry, values: Mapping[str, int], options: ConvertOptions
) -> MergedLabels:
    """Make one label volume of all label objects of an image.

    Where segments overlap, ``options.overlap`` says which one counts: the last or the first by number, or the one
    that ``labels`` names last. With "channels" the last by number counts here, and each label is kept whole beside it.
    """
    fits_8_bits = max(values.values(), default=0) < 256
    array = np.zeros(geometry.size, np.uint8) if fits_8_bits else np.zeros(geometry.size, np.uint16)
    # Of every label, drawn here or not, so that all cases have the same channels.
    channel_values = sorted(set(values.values())) if options.overlap == "channels" else []
    merged = MergedLabels(array, {}, {}, {}, {value: np.zeros(geometry.size, np.bool_) for value in channel_values})
    painted_names: set[str] = set()
    for label in labels:
        name_by_number = {number: name.casefold() for number, name in label.names.items() if name.casefold() in values}
        repeated = sorted(painted_names.intersection(name_by_number.values()))
        try:
            if repeated:
                raise DicomError(f"{', '.join(repeated)}: already labelled by another object of the same image")
            resamples = options.label_grid == "resample"
            label_masks = _read_masks(label, geometry, sorted(name_by_number), resample=resamples)
        except DicomError as error:
            merged.problems[label.sop_uid] = str(error)
            continue
        except PARSE_ERRORS as error:
            merged.problems[label.sop_uid] = f"unreadable: {type(error).__name__}"
            continue
        merged.remedies[label.sop_uid] = label_masks.remedy
        remark = _paint_masks(merged.array, label_masks.masks, name_by_number, values, options.overlap)
        merged.remarks[label.sop_uid] = remark
        painted_names.update(name_by_number.values())
        for number, name in name_by_number.items():
            if merged.channels:
                merged.channels[values[name]] |= label_masks.masks[number]
    return merged


def _paint_masks(
    label_map: NDArray[Any],
    masks: Mapping[int, NDArray[np.bool_]],
    name_by_number: Mapping[int, str],
    values: Mapping[str, int],
    overlap: str,
) -> str:
    """Paint the masks of one object, the one that counts last; says how many voxels lie in several."""
    order = sorted(name_by_number, reverse=overlap == "first")
    if overlap == "listed":
        name_order = list(values)
        order.sort(key=lambda number: name_order.index(name_by_number[number]))
    covered, is_overlapping = np.zeros(label_map.shape, dtype=np.bool_), np.zeros(label_map.shape, dtype=np.bool_)
    for number in order:
        is_overlapping |= covered & masks[number] & (label_map != values[name_by_number[number]])
        covered |= masks[number]
        label_map[masks[number]] = values[name_by_number[number]]
    return (
        f"{int(is_overlapping.sum())} voxels lie in several segments: {_OVERLAP_RULES[overlap]}"
        if is_overlapping.any()
        else ""
    )


def _read_masks(label: LabelObject, geometry: Geometry, numbers: Sequence[int], *, resample: bool) -> LabelMasks:
    if label.kind == "rtstruct":
        return LabelMasks(*read_rois(label.path, geometry, numbers))
    return read_segments(label.path, geometry, resample=resample)


def _read_segment_names(dataset: Dataset) -> Iterator[tuple[int, str]]:
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.SegmentNumber)
        # Number 0 of a label map is its background.
        if number > 0:
            yield number, str(item.get("SegmentLabel") or f"segment {number}").strip()


def _read_roi_names(dataset: Dataset) -> Iterator[tuple[int, str]]:
    for item in dataset.get("StructureSetROISequence") or []:
        yield int(item.ROINumber), str(item.get("ROIName") or f"ROI {item.ROINumber}").strip()


def _find_referenced_series(dataset: Dataset) -> Iterator[Dataset]:
    yield from dataset.get("ReferencedSeriesSequence") or []
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            yield from study.get("RTReferencedSeriesSequence") or []


def _find_referenced_instances(series: Dataset) -> Iterator[str]:
    # A SEG names its images in the first, an RTSTRUCT in the second.
    for keyword in ("ReferencedInstanceSequence", "ContourImageSequence"):
        for item in series.get(keyword) or []:
            yield str(item.get("ReferencedSOPInstanceUID", ""))
