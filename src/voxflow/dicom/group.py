"""Sorting headers into volumes, radiographs and label objects, and into what is left out, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from voxflow.dicom.headers import LABEL_CLASSES, SECONDARY_CAPTURE, DicomHeader
from voxflow.dicom.options import RADIOGRAPH_MODALITIES, VOLUME_MODALITIES
from voxflow.dicom.split import read_frame_headers, split_series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.dicom.options import ConvertOptions

PartKind = Literal["volume", "radiograph", "label", "skipped"]


@dataclass(frozen=True)
class SeriesPart:
    """What becomes one row of the conversion table: a series, a part of a mixed one, or one radiograph or label.

    Attributes:
        kind: what is made of it.
        headers: its objects.
        reason: why it is left out, for ``skipped``.
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
    members_by_part: dict[tuple[PartKind, str, str], list[DicomHeader]] = {}
    for header in headers:
        kind, reason = _classify(header, options)
        # A radiograph, a label and a multi-frame object stand for themselves; other objects are slices of their series.
        is_single_object = kind in ("radiograph", "label") or (kind == "volume" and header.frame_count > 1)
        part_uid = header.sop_uid if is_single_object else header.series_uid
        members_by_part.setdefault((kind, reason, part_uid), []).append(header)
    parts = []
    for (kind, reason, _), members in members_by_part.items():
        parts += _split_volumes(members, options) if kind == "volume" else [SeriesPart(kind, tuple(members), reason)]
    return sorted(parts, key=lambda part: part.key)


def _split_volumes(headers: list[DicomHeader], options: ConvertOptions) -> list[SeriesPart]:
    """The volumes of a series, or of one multi-frame object."""
    is_multiframe = headers[0].frame_count > 1
    slices = read_frame_headers(headers[0]) if is_multiframe else sorted(headers, key=lambda header: header.sop_uid)
    pieces = split_series(slices, options.min_slices)
    parts = []
    for number, piece in enumerate(pieces, start=1):
        members = tuple(headers) if is_multiframe else tuple(slices[n] for n in piece.members)
        remark = f"volume {number} of {len(pieces)} in its series, by {piece.by}" if piece.by else ""
        part = SeriesPart("volume", members, "", number, remark, piece.members if is_multiframe and piece.by else ())
        if number > 1 and options.several_volumes == "first":
            part = replace(part, kind="skipped", reason=f"{remark}; only the first is asked for")
        parts.append(part)
    return parts


def _classify(header: DicomHeader, options: ConvertOptions) -> tuple[PartKind, str]:
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
    return ("radiograph" if header.modality in RADIOGRAPH_MODALITIES else "volume"), ""
