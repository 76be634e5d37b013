"""Owns the text reports that evaluation writes, and the names and means in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voxflow.files import write_text
from voxflow.tables import write_predictions, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["mean_of", "metric_name", "write_dice_report", "write_predictions", "write_table"]


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
