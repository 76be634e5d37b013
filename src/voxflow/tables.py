"""Reads and writes tables as CSV files, and predictions under the names that Clara's documents give them."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError, shorten
from voxflow.files import atomic_path, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Row = dict[str, str]
DELIMITERS = (",", ";", "\t")  # of several that make as many columns, the first

MOST_COLUMNS = 10_000  # each row has all of them in memory, however short its line is
MOST_CELL = 32_767  # characters, as in Excel: no text of a file's own goes uncut into a table
LABELLED = "labelled"  # the column with the classes that were labelled in a case, joined by ";"
FINDING_PREFIX = "finding:"  # of the columns of cases.csv that say what a radiograph shows: 1, 0, or empty for unknown


def read_rows(path: Path) -> list[Row] | None:
    """Read a CSV with a header.

    Returns:
        A mapping of column to text for each row; None when the file is not there.

    Raises:
        DataError: it is no CSV in UTF-8.
    """
    if not path.is_file():
        return None
    text, delimiter = read_csv_text(path)
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def read_csv_text(path: Path) -> tuple[str, str]:
    """Read a CSV as people save it: UTF-8 with or without a byte-order mark, any line ends, commas, semicolons or tabs.

    Returns:
        The text, and what separates its cells: of comma, semicolon and tab what makes the most columns of the header.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no UTF-8, or no CSV: a cell has more than 131,072 characters, or it holds NUL.
    """
    text = read_text(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"no CSV: line {line} holds a NUL", path=path)
    # Excel's own note of the separator.
    if text.startswith("sep=") and text[5:6] == "\n":
        text, delimiter = text[6:], text[4]
    else:
        header = text.partition("\n")[0]
        delimiter = max(DELIMITERS, key=lambda delimiter: _count_cells(header, delimiter))
    columns = _count_cells(text.partition("\n")[0], delimiter)
    if columns > MOST_COLUMNS:
        raise DataError(f"no CSV: {columns:,} columns; at most {MOST_COLUMNS:,} are read", path=path)
    if len(text) > csv.field_size_limit():
        _check_cells(text, delimiter, path)
    return text, delimiter


def _count_cells(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _check_cells(text: str, delimiter: str, path: Path) -> None:
    """Refuse a cell that is too long before any row counts; a quote without an end takes all lines behind it."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        raise DataError(f"no CSV: line {reader.line_num}: {error}", path=path) from error


def is_labelled(row: Row) -> bool:
    """Whether a row of cases.csv has a mask, or for radiographs all of its findings.

    Example:
        >>> is_labelled({"label": "labels/a_1.nii.gz"}), is_labelled({"label": "", "finding:mass": "0"})
        (True, True)
        >>> is_labelled({"label": "", "finding:mass": "0", "finding:effusion": ""})
        False
    """
    findings = [value for name, value in row.items() if name.startswith(FINDING_PREFIX)]
    return all(findings) if findings else bool(row.get("label"))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a CSV with a header, also when there are no rows; NaN and None become empty cells."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)


def write_predictions(folder: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write preds_outputs.csv, and preds.csv as a link to it: Clara's documents know it under both names."""
    write_table(folder / "preds_outputs.csv", rows, columns)
    link = folder / "preds.csv"
    link.unlink(missing_ok=True)
    link.symlink_to("preds_outputs.csv")


def escape_cell(text: str) -> str:
    r"""A text as the cell of a Markdown table shows it: it ends at a bar and at a line's end, and marks are none.

    Example:
        >>> print(escape_cell("liver<15|a*b"))
        liver\<15\|a\*b
    """
    return " ".join(re.sub(r"([\\`*<|])", r"\\\1", text).splitlines())


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return shorten(value, MOST_CELL)
    return round(value, 6) if isinstance(value, float) else value
