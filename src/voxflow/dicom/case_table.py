"""Joins series to cases of several channels by the user's own table (``convert.cases``), in place of rules.

A row is a case: the column ``case`` names it, each channel's column names a series by its SeriesInstanceUID or by the
path of its folder or file below the source, and ``label``, where there is one, a SEG or RTSTRUCT in the same way.
``labelled``, where there is one, names the classes that were labelled in it, joined by ";"; empty: all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from voxflow.dicom.channel_cases import RADIOGRAPH, ChannelCase, ChannelPlan
from voxflow.dicom.channels import check_channels, compare_frames
from voxflow.errors import DataError, join_names
from voxflow.findings import suggest
from voxflow.tables import LABELLED, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.options import ConvertOptions
    from voxflow.tables import Row

CASE, LABEL = "case", "label"


@dataclass(frozen=True)
class _TableRow:
    """One row of the table, with the parts that its cells name.

    Attributes:
        line: its number in the file.
        name: of the case.
        parts: of its channels, as far as they are clear.
        labels: files of its label objects; None where the table has no such column.
        labelled: the case-folded names of the classes that were labelled; None: all.
        reason: why it makes no case; empty where it does.
    """

    line: int
    name: str
    parts: tuple[SeriesPart, ...]
    labels: frozenset[Path] | None
    labelled: frozenset[str] | None
    reason: str


def join_by_table(parts: Sequence[SeriesPart], source: Path, options: ConvertOptions) -> ChannelPlan:
    """Join series to cases as the table says that ``options.cases`` names.

    Args:
        parts: of the folder.
        source: the folder, which the table lies below.
        options: with the table's path, and the channels' names where ``channels`` gives their order.

    Raises:
        DataError: the table is missing, or has other columns.
    """
    path = source / (options.cases or "")
    table = read_rows(path)
    if table is None:
        raise DataError("file not found: `cases` names a table below the source", path=path)
    channels = _find_channels(list(table[0]) if table else [], options, path)
    finder = _SeriesFinder(parts, source)
    rows = [_read_row(row, n, channels, finder, options) for n, row in enumerate(table, start=2)]
    uses = Counter(part.key for row in rows for part in row.parts)
    counts = Counter(row.name for row in rows)
    rows = [_refuse_shared(row, uses, counts[row.name]) for row in rows]
    cases = [
        ChannelCase(row.parts, name=row.name, labels=row.labels, labelled=row.labelled)
        for row in rows
        if not row.reason
    ]
    used = {id(part) for case in cases for part in case.parts}
    refused_rows = [row for row in rows if row.reason]
    reasons = {id(part): f"line {row.line} of the table: {row.reason}" for row in refused_rows for part in row.parts}
    others = [_leave_out(part, reasons.get(id(part), "")) for part in parts if id(part) not in used]
    refused = tuple(f"line {row.line}: {row.reason}" for row in refused_rows)
    return ChannelPlan(channels, tuple(cases), tuple(others), refused)


def _find_channels(header: Sequence[str], options: ConvertOptions, path: Path) -> tuple[str, ...]:
    if CASE not in header:
        raise DataError(f"expected a column {CASE!r}, and one for each channel; found {join_names(header)}", path=path)
    channels = options.channels or ()
    if LABELLED in header and LABELLED not in channels and LABEL not in header:
        # Labels that nobody names may be files, which know nothing of this column.
        raise DataError(f"the column {LABELLED!r} needs the column {LABEL!r}, the SEG or RTSTRUCT of it", path=path)
    columns = [n for n in header if n not in (CASE, LABEL) and (n != LABELLED or n in channels)]
    missing = [name for name in options.channels or columns[:1] or [""] if name not in columns]
    if missing:
        hint = suggest(missing[0], columns) if columns else ""
        raise DataError(f"has no column for the channel {missing[0]!r}{hint}", path=path)
    extra = [column for column in columns if options.channels and column not in options.channels]
    if extra:
        hint = suggest(extra[0], options.channels or ())
        raise DataError(f"the column {extra[0]!r} is none of `channels`{hint}", path=path)
    try:
        return tuple(options.channels or check_channels(dict.fromkeys(columns)))
    except ValueError as error:
        raise DataError(str(error), path=path) from error


def _read_row(
    row: Row, line: int, channels: Sequence[str], finder: _SeriesFinder, options: ConvertOptions
) -> _TableRow:
    parts: dict[str, SeriesPart] = {}
    reasons: list[str] = []
    for channel in channels:
        try:
            parts[channel] = finder.find_series((row.get(channel) or "").strip())
        except DataError as error:
            reasons.append(f"channel {channel}: {error.message}")
    text, labels = (row.get(LABEL) or "").strip(), None
    try:
        labels = finder.find_labels(text) if LABEL in row else None
    except DataError as error:
        reasons.append(f"label: {error.message}")
    classes = "" if LABELLED in channels else row.get(LABELLED) or ""
    labelled = frozenset(name.strip().casefold() for name in classes.split(";") if name.strip()) or None
    if labelled and labels is not None and not text:
        reasons.append("`labelled` names classes, and its cell of `label` is empty")
    damaged = [channel for channel, part in parts.items() if part.kind == "unreadable"]
    reasons += [f"the channel {channel} can't be used: {parts[channel].reason}" for channel in damaged]
    if len({part.first.patient_id for part in parts.values()} - {""}) > 1:
        reasons.append("its channels are of different patients (0010,0020)")
    if not reasons and options.frame_of_reference == "same":
        reasons += compare_frames({channel: part.first.frame_of_reference for channel, part in parts.items()})
    return _TableRow(line, (row.get(CASE) or "").strip(), tuple(parts.values()), labels, labelled, "; ".join(reasons))


def _refuse_shared(row: _TableRow, uses: Mapping[tuple[str, int, str], int], name_count: int) -> _TableRow:
    """A row that names a series twice, or one that another row names, too; or whose case has no name of its own."""
    is_shared = any(uses[part.key] > 1 for part in row.parts)
    reasons = (
        row.reason,
        "one of its series stands in several cells of the table" if is_shared else "",
        "" if row.name else f"its cell of {CASE!r} is empty",
        f"{name_count} rows have the case {row.name!r}; each needs a name of its own"
        if row.name and name_count > 1
        else "",
    )
    return replace(row, reason="; ".join(filter(None, reasons)))


def _leave_out(part: SeriesPart, reason: str) -> SeriesPart:
    if part.kind == "radiograph":
        return replace(part, kind="skipped", reason=RADIOGRAPH)
    if part.kind != "volume":
        return part
    return replace(part, kind="unreadable" if reason else "skipped", reason=reason or "is in no row of the table")


class _SeriesFinder:
    """Finds parts of a folder by what a cell says."""

    def __init__(self, parts: Sequence[SeriesPart], source: Path) -> None:
        self._parts, self._source = parts, source

    def find_series(self, text: str) -> SeriesPart:
        """Find the one volume that a cell names.

        Raises:
            DataError: it is empty, or names none or several.
        """
        if not text:
            raise DataError("its cell is empty")
        name, _, number = text.rpartition("#") if "#" in text else (text, "", "")
        volumes = [part for part in self._find(name, ("volume", "unreadable")) if part.first.plane.rows]
        if number:
            volumes = [part for part in volumes if str(part.number) == number]
        if len(volumes) > 1:
            raise DataError(f"its cell names {len(volumes)} volumes; name one series, or one of its volumes as UID#2")
        if not volumes:
            raise DataError("its cell names no CT, MR or PET series here, neither by SeriesInstanceUID nor by its path")
        return volumes[0]

    def find_labels(self, text: str) -> frozenset[Path]:
        """Find the label objects that a cell names; none where it is empty.

        Raises:
            DataError: it names none.
        """
        labels = self._find(text, ("label",)) if text else []
        if text and not labels:
            raise DataError("its cell names no SEG or RTSTRUCT here, neither by SeriesInstanceUID nor by its path")
        return frozenset(part.first.path for part in labels)

    def _find(self, text: str, kinds: Sequence[str]) -> list[SeriesPart]:
        parts = [part for part in self._parts if part.kind in kinds]
        by_uid = [part for part in parts if part.first.series_uid == text]
        if by_uid:
            return by_uid
        relative = PurePosixPath(text.replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError("its cell leads out of the source; write a path below it")
        place = self._source / relative
        return [part for part in parts if all(header.path.is_relative_to(place) for header in part.headers)]
