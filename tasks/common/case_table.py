"""Reads the case table (cases.csv) that the stage convert writes and every later stage refers to."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.tables import FINDING_PREFIX, read_csv_text

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

NEEDED = ("case", "patient", "modality", "image", "label")


def read_cases(path: Path) -> pd.DataFrame:
    """Read cases.csv: text stays as it is written ("1.20", "NA", empty), findings are numbers, NaN where unknown.

    Raises:
        DataError: the table is missing, empty, lacks a column, or holds a finding that is no number.
    """
    import pandas as pd

    try:
        text, delimiter = read_csv_text(path)
        table = pd.read_csv(io.StringIO(text), sep=delimiter, dtype="str", keep_default_na=False)
    except FileNotFoundError as error:
        raise DataError("file not found; the stage before writes it", path=path) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"not a CSV table: {error}", path=path) from error
    missing = [column for column in NEEDED if column not in table.columns]
    if missing:
        raise DataError(f"lacks the column(s) {', '.join(missing)}", path=path)
    if table.empty:
        raise DataError("holds no case", path=path)
    for column in table.columns[table.columns.str.startswith(FINDING_PREFIX)]:
        try:
            table[column] = pd.to_numeric(table[column].replace("", None)).astype("float64")
        except ValueError as error:
            raise DataError(f"expected 0, 1 or nothing: {error}", path=path, where=column) from error
    return table
