"""Volumes that may lack a slice, since a DICOM file beside them can't be read.

A slice that is missing between two others leaves a gap; one at an end leaves none. So a file of which too little is
left to be read counts as a slice of the volume that it most likely belongs to: of the series that it names, or else of
the only series in its folder. That volume is not taken as whole. Where several series lie in the folder, nothing says
which of them lacks a slice: each is converted, and its row tells of the file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.headers import DicomHeader


def mark_incomplete(parts: Sequence[SeriesPart], unreadable: Sequence[DicomHeader]) -> list[SeriesPart]:
    """Mark the volumes that may lack a slice.

    Args:
        parts: of a folder.
        unreadable: the objects that can't be read.

    Returns:
        The parts in their order; of a volume that lacks a slice the kind is "unreadable", with the reason, and one that
        may lack a slice has a remark.
    """
    readable_uids = {header.sop_uid for part in parts if part.kind != "unreadable" for header in part.headers}
    # What another file holds whole is not lost.
    lost = [header for header in unreadable if header.path.name != "DICOMDIR" and header.sop_uid not in readable_uids]
    if not lost:
        return list(parts)
    volumes = _Volumes(parts)
    certain: dict[int, list[DicomHeader]] = defaultdict(list)
    possible: dict[int, list[DicomHeader]] = defaultdict(list)
    for alike in _group_alike(lost):
        numbers = volumes.find_of_series(alike[0]) or volumes.find_in_folder(alike[0])
        is_clear = len({parts[n].first.series_uid for n in numbers}) == 1
        most = max((len(parts[n].headers) for n in numbers), default=0)
        for n in numbers:
            # Of several volumes of one series, the longest ones are those that lack nothing.
            is_short = len(numbers) == 1 or len(parts[n].headers) < most
            (certain if is_clear and is_short else possible)[n] += alike
    return [_mark(part, certain.get(n, []), possible.get(n, [])) for n, part in enumerate(parts)]


def _group_alike(headers: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Objects that may belong to the same volumes."""
    groups: dict[tuple[object, ...], list[DicomHeader]] = defaultdict(list)
    for header in headers:
        place = header.series_uid or header.path.parent
        groups[place, header.sop_class, header.modality, header.study_uid, header.patient_id].append(header)
    return list(groups.values())


class _Volumes:
    """Finds volumes of single-frame objects by series and by folder."""

    def __init__(self, parts: Sequence[SeriesPart]) -> None:
        self._parts = parts
        self._by_series: dict[str, list[int]] = defaultdict(list)
        self._by_folder: dict[Path, list[int]] = defaultdict(list)
        for n, part in enumerate(parts):
            if part.kind == "volume" and not part.first.is_multiframe:
                self._by_series[part.first.series_uid].append(n)
                for folder in {header.path.parent for header in part.headers}:
                    self._by_folder[folder].append(n)

    def find_of_series(self, header: DicomHeader) -> list[int]:
        """Find the volumes of the series that an object names."""
        return self._select(header, self._by_series.get(header.series_uid, [])) if header.series_uid else []

    def find_in_folder(self, header: DicomHeader) -> list[int]:
        """Find the volumes with files beside an object that does not say of which series it is."""
        return [] if header.series_uid else self._select(header, self._by_folder.get(header.path.parent, []))

    def _select(self, header: DicomHeader, numbers: Sequence[int]) -> list[int]:
        return [n for n in numbers if _may_belong(header, self._parts[n].first)]


def _may_belong(header: DicomHeader, member: DicomHeader) -> bool:
    """Whether nothing that is left of an object contradicts that it is of one series with another."""
    pairs = (
        (header.sop_class, member.sop_class),
        (header.modality, member.modality),
        (header.study_uid, member.study_uid),
        (header.patient_id, member.patient_id),
    )
    # What a file ends in may be cut.
    return all(expected.startswith(value) for value, expected in pairs)


def _mark(part: SeriesPart, certain: Sequence[DicomHeader], possible: Sequence[DicomHeader]) -> SeriesPart:
    if certain:
        named = sum(bool(header.series_uid) for header in certain)
        whose = "of this series" if named == len(certain) else "beside it, in a folder of this series alone,"
        reason = (
            f"a slice may be missing: {len(certain)} DICOM file(s) {whose} can't be read ({certain[0].fault}). "
            "Get them again, or take them out of the source if they are no slices of it"
        )
        return replace(part, kind="unreadable", reason=reason, remark="")
    if possible:
        remark = f"{len(possible)} DICOM file(s) in its folder or series can't be read, and may be slices at its ends"
        return replace(part, remark="; ".join(text for text in (part.remark, remark) if text))
    return part
