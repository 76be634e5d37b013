"""Sorting headers into volumes, radiographs and label objects, and into what is left out, each with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from voxflow.dicom.frames import read_frame_headers
from voxflow.dicom.headers import (
    ENHANCED_CLASSES,
    IMAGE_CLASSES,
    LABEL_CLASSES,
    MEDIA_STORAGE_DIRECTORY,
    SECONDARY_CAPTURE,
    DicomHeader,
)
from voxflow.dicom.missing import mark_incomplete
from voxflow.dicom.options import RADIOGRAPH_MODALITIES, VOLUME_MODALITIES
from voxflow.dicom.split import split_series
from voxflow.errors import join_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.dicom.options import ConvertOptions

PartKind = Literal["volume", "radiograph", "label", "skipped", "unreadable"]


@dataclass(frozen=True)
class SeriesPart:
    """What becomes one row of the conversion table: a series, a part of a mixed one, or one radiograph or label.

    Attributes:
        kind: what is made of it.
        headers: its objects.
        reason: why it is left out, for ``skipped`` and ``unreadable``.
        number: which volume of its series it is, from 1.
        remark: the same in words; empty where there is one.
        frames: of a multi-frame object that holds several volumes, those of this one, from 0.
    """

    kind: PartKind
    headers: tuple[DicomHeader, ...]
    reason: str = ""
    number: int = 1
    remark: str = ""
    frames: tuple[int, ...] = ()

    @property
    def first(self) -> DicomHeader:
        """One of its objects, for the attributes that all have in common."""
        return self.headers[0]

    @property
    def key(self) -> tuple[str, int, str]:
        """SeriesInstanceUID, number and lowest SOPInstanceUID: an order that does not depend on the files' names."""
        return self.first.series_uid, self.number, min(header.sop_uid for header in self.headers)


def group_headers(headers: Iterable[DicomHeader], options: ConvertOptions) -> list[SeriesPart]:
    """Sort headers into parts: series taken apart into volumes, radiographs and label objects one by one.

    Args:
        headers: of a whole folder, in any order.
        options: which modalities to take, how few slices make a volume, and which of several volumes of a series.

    Returns:
        Parts of all kinds, those to skip among them with their reason, ordered by :attr:`SeriesPart.key`.
    """
    members_by_part: dict[tuple[str, ...], list[DicomHeader]] = {}
    for header in _mark_damaged_slices(_complete_patients(list(headers))):
        members_by_part.setdefault(_identify_part(header, options), []).append(header)
    parts = []
    for (kind, reason, *_), members in members_by_part.items():
        part_kind = cast("PartKind", kind)
        parts += (
            _split_volumes(members, options) if kind == "volume" else [SeriesPart(part_kind, tuple(members), reason)]
        )
    unreadable = [header for part in parts if part.kind == "unreadable" for header in part.headers if header.fault]
    return sorted(mark_incomplete(_remark_shared_uids(parts), unreadable), key=lambda part: part.key)


def _complete_patients(headers: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Give objects without PatientID (0010,0020) that of their study and series, where these are of one patient."""
    if all(header.patient_id for header in headers):
        return list(headers)
    patients: dict[tuple[str, str], set[str]] = {}
    for header in headers:
        if header.patient_id and header.study_uid and header.series_uid:
            patients.setdefault((header.study_uid, header.series_uid), set()).add(header.patient_id)
    completed = []
    for header in headers:
        of_series = patients.get((header.study_uid, header.series_uid), set())
        is_clear = not header.patient_id and len(of_series) == 1
        completed.append(replace(header, patient_id=next(iter(of_series))) if is_clear else header)
    return completed


def _mark_damaged_slices(headers: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Mark what must be a slice, by its class and series, and says to be something else; its series lacks it."""
    slices = {
        header.series_uid for header in headers if not header.is_multiframe and header.modality and not header.fault
    }
    marked = []
    for header in headers:
        is_slice = header.sop_class in IMAGE_CLASSES and header.sop_class not in ENHANCED_CLASSES
        fault = ""
        if is_slice and not header.fault and header.series_uid in slices:
            if header.is_multiframe:
                fault = "NumberOfFrames (0028,0008) is more than 1, or it is a part of an image, in a slice of a series"
            elif not header.modality:
                fault = "Modality (0008,0060) is missing in a slice of a series"
        marked.append(replace(header, fault=fault) if fault else header)
    return marked


def _identify_part(header: DicomHeader, options: ConvertOptions) -> tuple[str, ...]:
    """What all objects of a part have in common: no UID alone, since anonymisers delete and repeat them."""
    kind, reason = _classify(header, options)
    if kind == "unreadable":
        return kind, reason, header.series_uid, str(header.path.parent)
    # A radiograph, a label and a multi-frame object stand for themselves; other objects are slices of their series.
    is_single_object = kind in ("radiograph", "label") or (kind == "volume" and header.is_multiframe)
    if is_single_object:
        own_uid = header.concatenation.uid if header.concatenation else str(header.path)
        return kind, reason, header.patient, header.series_uid, own_uid
    return kind, reason, header.patient, header.series_uid, header.modality


def _remark_shared_uids(parts: Sequence[SeriesPart]) -> list[SeriesPart]:
    """Say of each volume whose UIDs also stand in objects of another patient, or in other objects of its own."""
    owners_by_series: dict[str, set[tuple[str, str]]] = {}
    for part in parts:
        if part.kind == "volume":
            owners_by_series.setdefault(part.first.series_uid, set()).add((part.first.patient, part.first.modality))
    # The time points of a multi-frame object share its header.
    readable_parts = [part for part in parts if part.kind != "unreadable"]
    uses = Counter({id(header): header.sop_uid for part in readable_parts for header in part.headers}.values())
    remarked = []
    for part in parts:
        remarks = [part.remark] if part.remark else []
        if part.kind == "volume" and not part.first.series_uid:
            remarks.append("SeriesInstanceUID (0020,000E) is missing; what else the slices have in common decided")
        elif part.kind == "volume" and len(owners_by_series[part.first.series_uid]) > 1:
            remarks.append("objects of another patient or modality have the same SeriesInstanceUID (0020,000E)")
        if part.kind in ("volume", "radiograph") and any(uses[header.sop_uid] > 1 for header in part.headers):
            remarks.append("other objects have the same SOPInstanceUID (0008,0018) and another content")
        remarked.append(replace(part, remark="; ".join(remarks)))
    return remarked


def _split_volumes(headers: list[DicomHeader], options: ConvertOptions) -> list[SeriesPart]:
    """The volumes of a series, or of one multi-frame object."""
    is_multiframe = headers[0].is_multiframe
    if is_multiframe:
        headers = sorted(headers, key=lambda header: header.concatenation.number if header.concatenation else 0)
        fault = _find_missing_part(headers)
        if fault:
            return [SeriesPart("unreadable", tuple(headers), fault)]
    slices = read_frame_headers(headers) if is_multiframe else _complete_slices(headers)
    # InConcatenationTotalNumber may be left out (PS3.3 C.7.6.16.2.2.4); a lost last part then leaves no trace.
    is_counted = all(header.concatenation is None or header.concatenation.total for header in headers)
    doubt = "" if is_counted else f"one image in {len(headers)} objects, which do not say how many they are in all"
    pieces = split_series(slices, options.min_slices, options.spacing_tolerance_mm)
    volume_count = sum(not piece.left_out for piece in pieces)
    parts = []
    for number, piece in enumerate(pieces, start=1):
        members = tuple(headers) if is_multiframe else tuple(slices[n] for n in piece.members)
        if piece.left_out:
            parts.append(SeriesPart("skipped", members, piece.left_out, number))
            continue
        place = f"volume {number} of {volume_count} in its series, by {piece.by}" if piece.by else ""
        remark = "; ".join(text for text in (place, piece.remark, doubt) if text)
        is_subset = is_multiframe and len(pieces) > 1
        part = SeriesPart("volume", members, "", number, remark, piece.members if is_subset else ())
        if number > 1 and options.several_volumes == "first":
            part = replace(part, kind="skipped", reason=f"{remark}; only the first is asked for")
        parts.append(part)
    return parts


def _complete_slices(headers: Sequence[DicomHeader]) -> list[DicomHeader]:
    """The headers in the order of their UIDs; enhanced objects of one frame say in functional groups where it lies."""
    ordered = sorted(headers, key=lambda header: header.sop_uid)
    is_enhanced = [not header.plane.position and header.sop_class in ENHANCED_CLASSES for header in ordered]
    return [read_frame_headers([h])[0] if enhanced else h for h, enhanced in zip(ordered, is_enhanced, strict=True)]


def _find_missing_part(headers: Sequence[DicomHeader]) -> str:
    """What is wrong with the parts of a concatenation, in the order of their numbers; empty where it is whole."""
    parts = [header.concatenation for header in headers if header.concatenation]
    numbers = [part.number for part in parts]
    total = max([part.total or part.number for part in parts], default=0)
    if 0 in numbers:
        return "(0020,9162): a concatenation, one image in several objects, which do not say in which order"
    if numbers == list(range(1, total + 1)):
        return ""
    return (
        f"(0020,9162): a concatenation, one image in {total} objects, of which number "
        f"{join_names(list(map(str, numbers)))} is here, where each of 1 to {total} must be once"
    )


def _classify(header: DicomHeader, options: ConvertOptions) -> tuple[PartKind, str]:
    if header.fault:
        return "skipped" if header.sop_class == MEDIA_STORAGE_DIRECTORY else "unreadable", header.fault
    if header.sop_class in LABEL_CLASSES:
        return "label", ""
    # Multi-frame secondary captures have the same UID with a further component.
    if header.sop_class.startswith(SECONDARY_CAPTURE):
        return "skipped", "secondary capture"
    if header.plane.rows == 0:
        return "skipped", f"no image ({header.modality or 'no modality'})"
    # Value 3 of ImageType (0008,0008) of CT (PS3.3 C.8.2.1.1.1); MR scanners write it too.
    if "LOCALIZER" in header.image_type:
        return "skipped", "localizer"
    modalities = options.modalities or VOLUME_MODALITIES + RADIOGRAPH_MODALITIES
    if header.modality not in modalities:
        return "skipped", f"modality {header.modality or 'unknown'} is not among {', '.join(modalities)}"
    if "MOSAIC" in header.image_type:
        return (
            "unreadable",
            "a Siemens mosaic, a volume in one picture: export it as enhanced MR, or use dcm2niix",
        )
    return ("radiograph" if header.modality in RADIOGRAPH_MODALITIES else "volume"), ""
