"""Owns reading the case table that convert writes and every later stage refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TEXT = ("case", "patient", "image", "label")


def read_cases(path: Path) -> pd.DataFrame:
    """Read cases.csv: empty text stays empty text, unknown findings are NaN.

    Raises:
        DataError: the table is missing, empty, or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, "str"))
    except FileNotFoundError as error:
        raise DataError("file not found; the stage before writes it", path=path) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise DataError(f"not a CSV table: {error}", path=path) from error
    missing = [column for column in TEXT if column not in table.columns]
    if missing:
        raise DataError(f"lacks the column(s) {', '.join(missing)}", path=path)
    if table.empty:
        raise DataError("holds no case", path=path)
    table["label"] = table["label"].fillna("")
    return table
