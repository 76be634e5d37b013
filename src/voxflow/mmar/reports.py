"""Writes an evaluation's text files, one for each number and the Dice of each case, and reads predictions back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from voxflow.components import ComputeAverageDice
from voxflow.evaluation import write_dice_report
from voxflow.files import make_file_name, write_text
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.components import Metric

PREDICTIONS = "preds_outputs.csv"


def write_metric(
    metric: Metric, measured: Sequence[NDArray[Any]], cases: Sequence[str], folder: Path, class_names: Sequence[str]
) -> dict[str, float]:
    """Write a metric's files and return its numbers, NaN where one is not defined.

    Args:
        metric: what was measured.
        measured: what it kept of each case.
        cases: the cases, in the same order.
        folder: an existing folder; gets NAME.txt for each number, and NAME_dice_report.txt for a Dice.
        class_names: of the model.
    """
    if not measured:
        return {metric.name: math.nan}
    numbers = metric.summarise(measured, class_names)
    for name, value in numbers.items():
        write_text(folder / f"{make_file_name(name)}.txt", f"{value:.6f}\n" if math.isfinite(value) else "undefined\n")
    if isinstance(metric, ComputeAverageDice):
        report = folder / f"{make_file_name(metric.name)}_dice_report.txt"
        write_dice_report(report, zip(cases, metric.average_by_case(measured), strict=True))
    return numbers


def read_predictions(folder: Path, class_names: Sequence[str]) -> dict[str, list[float]]:
    """Read the probabilities that an inference left in preds_outputs.csv.

    Args:
        folder: the folder of the results.
        class_names: of the model.

    Returns:
        By case, in the order of the classes; empty where the file is missing or has not these classes.
    """
    rows = read_rows(folder / PREDICTIONS)
    if not rows or not {"case", *class_names} <= rows[0].keys():
        return {}
    return {row["case"]: [float(row[name]) for name in class_names] for row in rows}
