"""Reads a table of paths, CSV or Excel: a row for each case, a column for each channel and for the label."""

from __future__ import annotations

import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from voxflow.errors import DataError, MissingDependencyError, join_names
from voxflow.files import require_regular_file
from voxflow.findings import suggest
from voxflow.layouts.folder import describe_unusable, is_volume
from voxflow.layouts.masks import build_mask_layout
from voxflow.layouts.model import ChannelSource, LabelSource, Layout, LayoutCase, Part
from voxflow.tables import LABELLED, read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.layouts.folder import FolderFiles

IMAGE, LABEL, MASK = "image", "label", "mask"
CASE, PATIENT, PART = "case", "patient", "part"
SEPARATOR = ":"
MOST_WORKBOOK_BYTES = 1 << 25  # unpacked: a table of 100,000 rows; openpyxl takes 50 times as much
MOST_ROWS, MOST_COLUMNS = 100_000, 1_000  # of a workbook
MOST_FAULTS = 3  # that are named of all
EXCEL = (".xlsx", ".xlsm")
ENDINGS = (".csv", ".tsv", *EXCEL)
PARTS: Mapping[str, Part] = {
    "": "",
    **dict.fromkeys(("train", "training", "val", "valid", "validation"), "training"),
    **dict.fromkeys(("test", "testing"), "testing"),
}


def recognise_table(folder: FolderFiles) -> Layout | None:
    """Read a table in the source folder itself whose columns name files below it.

    The columns: ``image``, or ``image:NAME`` for each channel; ``label`` for a map, or ``mask:NAME`` for each class;
    ``case``, ``patient``, ``part`` (training, testing) and ``labelled`` (names of classes, ";" between) where the
    table has them.

    A row that names no image, a file that is not there, or one out of the source has a fault, and the others count.

    Returns:
        None where no table has a column ``image`` with a volume in any row.

    Raises:
        DataError: two tables have one, no row makes a case, or the columns contradict each other.
    """
    tables = []
    for file in folder.files:
        if file.parent == folder.source and file.suffix.lower() in ENDINGS:
            rows = _read_table(file)
            if any(
                _split_column(column)[0] == IMAGE and is_volume(Path(text))
                for row in rows
                for column, text in row.items()
            ):
                tables.append((file, rows))
    if len(tables) > 1:
        raise DataError(
            f"{len(tables)} tables of paths lie here, {tables[0][0].name} and {tables[1][0].name}; keep one"
        )
    return _read_cases(*tables[0], folder) if tables else None


def _read_table(path: Path) -> list[dict[str, str]]:
    """The cells of each row by column; columns are in lower case, but for the name after the colon."""
    rows = _read_workbook(path) if path.suffix.lower() in EXCEL else read_rows(path) or []
    return [
        {
            name.strip().lower() if SEPARATOR not in name else name.strip(): (text or "").strip()
            for name, text in row.items()
            if name
        }
        for row in rows
        if row
    ]


def _read_workbook(path: Path) -> list[dict[str, str]]:
    """The first sheet of a workbook, without its empty rows.

    openpyxl alone and row by row: pandas fills each row up to its last cell, and one may stand in column 16,384.
    """
    _check_workbook(path)
    try:
        import openpyxl
    except ImportError as error:
        raise MissingDependencyError(
            "reading Excel tables needs openpyxl: pip install openpyxl, or save as CSV"
        ) from error
    try:
        with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # which the file may state wrong
            cells = sheet.iter_rows(max_row=MOST_ROWS + 2, max_col=MOST_COLUMNS, values_only=True)
            rows = [["" if value is None else str(value) for value in row] for row in cells]
    # What openpyxl raises on damaged workbooks.
    except (ValueError, OSError, LookupError, TypeError, AttributeError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(f"no table that can be read: {error}", path=path) from error
    if len(rows) > MOST_ROWS + 1:
        raise DataError(f"a workbook of more than {MOST_ROWS:,} rows", path=path)
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:] if any(row)]


def _check_workbook(path: Path) -> None:
    """Refuse a workbook that is no zip or unpacks to far more than a table; zipfile reads no more than it says."""
    require_regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            byte_count = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"no workbook that can be read: {error}", path=path) from error
    if byte_count > MOST_WORKBOOK_BYTES:
        raise DataError(
            f"a workbook that unpacks to {byte_count:,} bytes; at most {MOST_WORKBOOK_BYTES:,} are read", path=path
        )


def _read_cases(path: Path, rows: Sequence[Mapping[str, str]], folder: FolderFiles) -> Layout:
    columns = {column: _split_column(column) for column in rows[0]}
    images = [(column, name or IMAGE) for column, (kind, name) in columns.items() if kind == IMAGE]
    masks = [(column, name) for column, (kind, name) in columns.items() if kind in (LABEL, MASK)]
    if len({bool(name) for _, name in masks}) > 1 or sum(not name for _, name in masks) > 1:
        names = ", ".join(column for column, _ in masks)
        raise DataError(f"has the columns {names}; a label is one map ({LABEL}) or masks ({MASK}:NAME)", path=path)
    cases = [
        _read_case(row, number, path, source=folder.source, images=[column for column, _ in images], masks=masks)
        for number, row in enumerate(rows, start=2)
    ]
    cases = _refuse_again(_refuse_repeated(cases))
    faults = [case.fault.partition("; ")[0] for case in cases if case.fault]
    if len(faults) == len(cases):
        raise DataError(f"no row makes a case: {join_names(faults, MOST_FAULTS)}", path=path)
    layout = build_mask_layout("table", folder, tuple(name for _, name in images), cases)
    remarks = (f"{len(faults)} row(s) of {path.name} make no case: {join_names(faults, MOST_FAULTS)}",)
    layout = replace(layout, remarks=(remarks if faults else ()) + layout.remarks + _list_unread_columns(path, columns))
    return layout if any(name for _, name in masks) else replace(layout, classes={})


def _read_case(
    row: Mapping[str, str],
    number: int,
    table: Path,
    *,
    source: Path,
    images: Sequence[str],
    masks: Sequence[tuple[str, str]],
) -> LayoutCase:
    """One row; what is wrong with it is its fault, with the files that are clear all the same."""
    faults: list[str] = []

    def find_file(column: str) -> Path | None:
        file, fault = _find_file(row.get(column, ""), source)
        faults.extend([f"column {column}: {fault}"] if fault else [])
        return file

    channels = tuple(ChannelSource(file) if (file := find_file(column)) else None for column in images)
    labels = tuple(LabelSource(file, name) for column, name in masks if (file := find_file(column)))
    part = row.get(PART, "").lower()
    if part not in PARTS:
        faults.append(f"column {PART}: expected train, val or test, received {part!r}")
    if not any(channels) and not faults:
        faults.append("names no image")
    name = row.get(CASE) or f"row_{number}"
    return LayoutCase(
        name=name,
        patient=row.get(PATIENT) or name,
        channels=channels,
        labels=labels,
        part=PARTS.get(part, ""),
        labelled=_read_labelled(row),
        fault=f"line {number}, {'; '.join(faults)}" if faults else "",
        table=table,
    )


def _refuse_repeated(cases: Sequence[LayoutCase]) -> list[LayoutCase]:
    """Refuse each of several rows that have one name, since nobody can tell which one is meant."""
    counts = Counter(case.name for case in cases)

    def refuse(case: LayoutCase, number: int) -> LayoutCase:
        fault = f"line {number}, column {CASE}: {counts[case.name]} rows are called {case.name!r}"
        return replace(case, name=f"{case.name}, line {number}", fault=case.fault or fault)

    return [refuse(case, n) if counts[case.name] > 1 else case for n, case in enumerate(cases, start=2)]


def _refuse_again(cases: Sequence[LayoutCase]) -> list[LayoutCase]:
    """Refuse a row whose images stand in an earlier one: a model would be tested on what it has learned from."""
    first: dict[tuple[ChannelSource | None, ...], int] = {}
    for number, case in enumerate(cases, start=2):
        if not case.fault:
            first.setdefault(case.channels, number)
    return [
        replace(case, fault=f"line {number}, names the images of line {first[case.channels]} again")
        if not case.fault and first[case.channels] != number
        else case
        for number, case in enumerate(cases, start=2)
    ]


def _list_unread_columns(path: Path, columns: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """A remark on columns that mean nothing here; a misspelt one would lose labels, or part a patient's cases."""
    names = (CASE, PATIENT, PART, LABELLED, IMAGE, LABEL)
    unread = [
        f"{column!r}{suggest(column.lower(), names)}"
        for column, (kind, _) in columns.items()
        if column not in names and kind not in (IMAGE, LABEL, MASK)
    ]
    if not unread:
        return ()
    alone = "" if PATIENT in columns else f"; without {PATIENT!r}, each case counts as a patient of its own"
    return (f"columns of {path.name} that are not read: {', '.join(unread)}{alone}",)


def _find_file(text: str, source: Path) -> tuple[Path | None, str]:
    """The file that a cell names, and why it can't be; None where the cell is empty, or leads elsewhere."""
    text = text.replace("\\", "/")
    if not text:
        return None, ""
    # An absolute path may lie below the source, too.
    file = source / text
    if ".." in PurePosixPath(text).parts or not file.absolute().is_relative_to(source.absolute()):
        return None, f"{text!r} leads out of the source, write paths below it"
    fault = describe_unusable(file)
    return file, f"{text!r} {fault}" if fault else ""


def _read_labelled(row: Mapping[str, str]) -> tuple[str, ...] | None:
    """The classes that a row says were labelled, with semicolons between; None where it does not say."""
    names = tuple(name for text in row.get(LABELLED, "").split(";") if (name := text.strip()))
    return names or None


def _split_column(column: str) -> tuple[str, str]:
    kind, _, name = column.partition(SEPARATOR)
    return kind.strip().lower(), name.strip()
