"""Owns sorting headers into what can be converted: volumes, radiographs, labels, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from voxflow.dicom.headers import LABEL_CLASSES, SECONDARY_CAPTURE, Header
from voxflow.dicom.options import RADIOGRAPH_MODALITIES, VOLUME_MODALITIES
from voxflow.dicom.split import frames_as_headers, take_apart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.dicom.options import ConvertOptions

Kind = Literal["volume", "radiograph", "label", "skipped"]


@dataclass(frozen=True)
class Part:
    """What becomes one row of the conversion table: a series, a part of a mixed one, or one radiograph or label.

    Attributes:
        kind: what is made of it.
        headers: its objects.
        reason: why it is left out, for ``skipped``.
        number: which volume of its series it is, from 1.
        remark: the same in words; empty where there is one.
        frames: of a multi-frame object that holds several volumes, those of this one, from 0.
    """

    kind: Kind
    headers: tuple[Header, ...]
    reason: str = ""
    number: int = 1
    remark: str = ""
    frames: tuple[int, ...] = ()

    @property
    def first(self) -> Header:
        """Any of its objects, for what they have in common."""
        return self.headers[0]

    @property
    def key(self) -> tuple[str, int, str]:
        """What orders parts the same way on every machine, whatever the files are called."""
        return self.first.series_uid, self.number, min(header.sop_uid for header in self.headers)


def group(headers: Iterable[Header], options: ConvertOptions) -> list[Part]:
    """Sort headers into parts, ordered by :attr:`Part.key`."""
    gathered: dict[tuple[Kind, str, str], list[Header]] = {}
    for header in headers:
        kind, reason = _kind(header, options)
        alone = kind in ("radiograph", "label") or (kind == "volume" and header.frames > 1)
        place = header.sop_uid if alone else header.series_uid
        gathered.setdefault((kind, reason, place), []).append(header)
    parts = []
    for (kind, reason, _), members in gathered.items():
        parts += _volumes(members, options) if kind == "volume" else [Part(kind, tuple(members), reason)]
    return sorted(parts, key=lambda part: part.key)


def _volumes(headers: list[Header], options: ConvertOptions) -> list[Part]:
    """The volumes of a series, or of one multi-frame object."""
    frames = headers[0].frames > 1
    each = frames_as_headers(headers[0]) if frames else sorted(headers, key=lambda header: header.sop_uid)
    pieces = take_apart(each, options.min_slices)
    parts = []
    for number, piece in enumerate(pieces, start=1):
        members = tuple(headers) if frames else tuple(each[n] for n in piece.members)
        remark = f"volume {number} of {len(pieces)} in its series, by {piece.by}" if piece.by else ""
        part = Part("volume", members, "", number, remark, piece.members if frames and piece.by else ())
        if number > 1 and options.several_volumes == "first":
            part = replace(part, kind="skipped", reason=f"{remark}; only the first is asked for")
        parts.append(part)
    return parts


def _kind(header: Header, options: ConvertOptions) -> tuple[Kind, str]:
    if header.sop_class in LABEL_CLASSES:
        return "label", ""
    if header.sop_class.startswith(SECONDARY_CAPTURE):
        return "skipped", "secondary capture"
    if header.plane.rows == 0:
        return "skipped", f"no image ({header.modality or 'no modality'})"
    if "LOCALIZER" in header.image_type:
        return "skipped", "localizer"
    wanted = options.modalities or VOLUME_MODALITIES + RADIOGRAPH_MODALITIES
    if header.modality not in wanted:
        return "skipped", f"modality {header.modality or 'unknown'} is not among {', '.join(wanted)}"
    return ("radiograph" if header.modality in RADIOGRAPH_MODALITIES else "volume"), ""
