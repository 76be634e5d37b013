"""Writes an evaluation's text files, one for each number and the Dice of each case, and reads predictions back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components import ComputeAverage, ComputeAverageDice, MonaiMetric
from voxflow.evaluation import write_dice_report
from voxflow.files import write_text
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.components import Metric
    from voxflow.config import MetricReports

PREDICTIONS = "preds_outputs.csv"
# What a summary says of the cases' values.
SUMMARIES: dict[str, Callable[[NDArray[Any]], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "90percentile": lambda values: float(np.percentile(values, 90)),
    "std": lambda values: float(values.std()),
}


def write_metric(
    metric: Metric,
    measured: Sequence[NDArray[Any]],
    numbers: Mapping[str, float],
    cases: Sequence[str],
    folder: Path,
    *,
    files: Mapping[str, str],
) -> None:
    """Write a metric's files.

    Args:
        metric: what was measured.
        measured: what it kept of each case.
        numbers: what that comes to, NaN where it is not defined.
        cases: the cases, in the same order.
        folder: an existing folder; gets NAME.txt for each number, NAME_raw_results.txt and NAME_summary_results.txt,
            and NAME_dice_report.txt for a Dice.
        files: NAME for each number and each metric.
    """
    if not measured:
        return
    for name, value in numbers.items():
        write_text(folder / f"{files[name]}.txt", f"{value:.6f}\n" if math.isfinite(value) else "undefined\n")
    by_case = list_case_values(metric, measured)
    if isinstance(metric, ComputeAverageDice):
        report = folder / f"{files[metric.name]}_dice_report.txt"
        write_dice_report(report, zip(cases, by_case, strict=True))
    if len(by_case) == len(cases):
        _write_results(files[metric.name], dict(zip(cases, by_case, strict=True)), folder)


def list_case_values(metric: Metric, measured: Sequence[NDArray[Any]]) -> list[float]:
    """List what each case scored; empty for a metric that is of all cases together.

    Args:
        metric: what was measured.
        measured: what it kept of each case.
    """
    if isinstance(metric, ComputeAverageDice):
        return metric.average_by_case(measured)
    if isinstance(metric, ComputeAverage):
        return [_mean(np.asarray(values, float)) for values in measured]
    return [_mean(row) for row in metric.values_by_case(measured)] if isinstance(metric, MonaiMetric) else []


def _mean(values: NDArray[Any]) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan


def _write_results(name: str, by_case: dict[str, float], folder: Path) -> None:
    """Write NAME_raw_results.txt, a line a case, and NAME_summary_results.txt, as Clara 3's notebooks show them."""
    raw = [f"{case}\t{value:.4f}" for case, value in by_case.items()]
    write_text(folder / f"{name}_raw_results.txt", "\n".join(["filename\tvalue", *raw]) + "\n")
    values = np.array([value for value in by_case.values() if math.isfinite(value)])
    rows = [f"{key}\t{summary(values):.4f}" for key, summary in SUMMARIES.items()] if values.size else []
    lines = ["statistic\tvalue", *rows, f"cases\t{len(by_case)}", f"defined\t{values.size}"]
    write_text(folder / f"{name}_summary_results.txt", "\n".join(lines) + "\n")


def write_metric_reports(
    reports: MetricReports,
    metrics: Sequence[tuple[Metric, Sequence[NDArray[Any]], dict[str, float]]],
    images: Sequence[str],
    folder: Path,
) -> None:
    """Write metrics.csv, NAME_raw.csv and NAME_summary.csv, as MONAI's MetricsSaver does.

    Args:
        reports: which of them.
        metrics: each metric, what it kept of each case, and its numbers.
        images: the file of each case.
        folder: an existing folder.
    """
    from monai.handlers.utils import write_metrics_reports

    numbers = {name: value for _, _, values in metrics for name, value in values.items()}
    listed = {name: np.float64(numbers[name]) for name in _choose(reports.metrics, numbers)}
    measured = {metric.name: values for metric, values, _ in metrics if isinstance(metric, MonaiMetric) and values}
    by_name = {metric.name: metric for metric, _, _ in metrics if isinstance(metric, MonaiMetric)}
    details = {name: by_name[name].values_by_case(measured[name]) for name in _choose(reports.details, measured)}
    details = {name: values for name, values in details.items() if len(values) == len(images)}
    operations = None if reports.summaries is None else list(reports.summaries or ("*",))
    write_metrics_reports(str(folder), list(images), listed, details, operations)


def _choose(wanted: tuple[str, ...] | None, names: Iterable[str]) -> list[str]:
    """The names that are wanted: None none of them, () all."""
    return [] if wanted is None else [name for name in names if not wanted or name in wanted]


def read_predictions(folder: Path, class_names: Sequence[str]) -> dict[str, list[float]]:
    """Read the probabilities that an inference left in preds_outputs.csv.

    Returns:
        By case, in the order of the classes; empty where the file is missing or has not these classes.
    """
    rows = read_rows(folder / PREDICTIONS)
    if not rows or not {"case", *class_names} <= rows[0].keys():
        return {}
    return {row["case"]: [float(row[name]) for name in class_names] for row in rows}
