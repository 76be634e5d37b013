"""Owns sorting headers into what can be converted: volumes, radiographs, labels, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.dicom.headers import LABEL_CLASSES, SECONDARY_CAPTURE, Header
from voxflow.dicom.options import RADIOGRAPH_MODALITIES, VOLUME_MODALITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voxflow.dicom.options import ConvertOptions

Kind = Literal["volume", "radiograph", "label", "skipped"]


@dataclass(frozen=True)
class Part:
    """What becomes one row of the conversion table: a series, a part of a mixed one, or one radiograph or label.

    Attributes:
        kind: what is made of it.
        headers: its objects.
        reason: why it is left out, for ``skipped``.
    """

    kind: Kind
    headers: tuple[Header, ...]
    reason: str = ""

    @property
    def first(self) -> Header:
        """Any of its objects, for what they have in common."""
        return self.headers[0]

    @property
    def key(self) -> tuple[str, str]:
        """What orders parts the same way on every machine, whatever the files are called."""
        return self.first.series_uid, min(header.sop_uid for header in self.headers)


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
        pieces = split_mixed(members, options.min_slices) if kind == "volume" else [members]
        parts += [Part(kind, tuple(piece), reason) for piece in pieces]
    return sorted(parts, key=lambda part: part.key)


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


def split_mixed(headers: Sequence[Header], min_slices: int) -> list[list[Header]]:
    """Take a series apart that holds several volumes, by the first attribute that leaves each one plain.

    A series that no attribute takes apart into whole volumes stays as it is; the grid check then names its fault.
    """
    if _plain(headers):
        return [list(headers)]
    for attribute in _ATTRIBUTES:
        pieces: dict[object, list[Header]] = {}
        for header in headers:
            pieces.setdefault(attribute(header), []).append(header)
        if len(pieces) > 1 and all(len(piece) >= min_slices and _plain(piece) for piece in pieces.values()):
            return list(pieces.values())
    return [list(headers)]


def _orientation(header: Header) -> tuple[float, ...]:
    return tuple(float(np.round(value, 2)) + 0.0 for value in header.plane.orientation)


def _matrix(header: Header) -> tuple[object, ...]:
    return header.plane.rows, header.plane.columns, header.plane.spacing


_ATTRIBUTES: tuple[Callable[[Header], object], ...] = (
    lambda header: header.image_type,
    lambda header: header.echo_time,
    lambda header: header.acquisition,
    lambda header: header.temporal_position,
    _orientation,
    _matrix,
)


def _plain(headers: Sequence[Header]) -> bool:
    """Whether all look one way, have one matrix, and no two lie at one place."""
    if len({(_orientation(header), _matrix(header)) for header in headers}) > 1:
        return False
    places = {tuple(round(value, 3) for value in header.plane.position) for header in headers}
    return len(places) == len(headers)
