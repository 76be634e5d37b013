"""Owns the tables and text reports that evaluation and inference write."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

from voxflow.files import atomic_path, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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


def write_dice_report(path: Path, scores: Iterable[tuple[str, float]]) -> float:
    """Write a line a file, then the mean, and return the mean; NaN where no score is defined."""
    listed = list(scores)
    mean = mean_of(score for _, score in listed)
    lines = [f"{name} {score:.6f}" if not math.isnan(score) else f"{name} undefined" for name, score in listed]
    write_text(path, "\n".join([*lines, f"mean {mean:.6f}" if not math.isnan(mean) else "mean undefined"]) + "\n")
    return mean


def mean_of(values: Iterable[float]) -> float:
    """The mean of the defined values; NaN when there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def metric_name(name: str) -> str:
    """A name that MLflow takes for a metric: what it would refuse in a class's name becomes an underscore."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return round(value, 6) if isinstance(value, float) else value
