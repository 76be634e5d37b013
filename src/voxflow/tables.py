"""Writes tables as CSV files, and predictions under the names that Clara's documents give them."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

from voxflow.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a CSV with a header, also when there are no rows; NaN and None become empty cells."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)


def write_predictions(folder: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write preds_outputs.csv, and preds.csv as a link to it: Clara's documents know it under both names."""
    write_table(folder / "preds_outputs.csv", rows, columns)
    link = folder / "preds.csv"
    link.unlink(missing_ok=True)
    link.symlink_to("preds_outputs.csv")


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return round(value, 6) if isinstance(value, float) else value
