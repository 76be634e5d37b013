"""Writes the text reports of an evaluation, with the names and means in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from voxflow.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

FAILED_REMARK = "failed: "  # what the remark of a case without scores begins with, in a table by case


def write_dice_report(path: Path, scores: Iterable[tuple[str, float]]) -> float:
    """Write one line a file with its Dice, then the mean.

    Args:
        path: the text file.
        scores: name and score; NaN is written as "undefined" and left out of the mean.

    Returns:
        The mean; NaN where no score is defined.
    """
    named_scores = list(scores)
    mean = average_defined(score for _, score in named_scores)
    lines = [f"{name} {score:.6f}" if not math.isnan(score) else f"{name} undefined" for name, score in named_scores]
    write_text(path, "\n".join([*lines, f"mean {mean:.6f}" if not math.isnan(mean) else "mean undefined"]) + "\n")
    return mean


def make_failed_rows(failures: Sequence[Mapping[str, str]], scored: Collection[str]) -> list[dict[str, str]]:
    """Make the rows of a per-case table for cases that have no scores, with the reason as the remark.

    Args:
        failures: rows of case and reason; of one case's reasons the first is told.
        scored: the cases that have scores after all, which get no such row.

    Example:
        >>> make_failed_rows([{"case": "p1", "reason": "unreadable image"}], scored=())
        [{'case': 'p1', 'remark': 'failed: unreadable image'}]
    """
    reasons = {row["case"]: row["reason"] for row in reversed(failures)}
    cases = dict.fromkeys(row["case"] for row in failures)
    return [{"case": case, "remark": f"{FAILED_REMARK}{reasons[case]}"} for case in cases if case not in scored]


def write_summary(
    folder: Path,
    failures: Sequence[Mapping[str, str]],
    metrics: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    more: Mapping[str, Any],
) -> None:
    """Write summary.json, and report.txt for a person; both begin with what failed.

    Args:
        folder: where to.
        failures: case and reason.
        metrics: flat numbers.
        intervals: the 95 % interval of some of them.
        more: what else stands in the JSON; NaN in it becomes null.
    """
    bounds = {name: [float(f"{low:.6g}"), float(f"{high:.6g}")] for name, (low, high) in intervals.items()}
    summary = {"failures": [dict(row) for row in failures], "metrics": dict(metrics), "intervals_95": bounds}
    write_json(folder / "summary.json", summary | _make_plain(more))
    lines = [f"{len(failures)} failed"] + [f"  {row['case']}: {row['reason']}" for row in failures]
    width = max((len(name) for name in metrics), default=0)
    for name, value in metrics.items():
        interval = f"  ({bounds[name][0]:.4g} to {bounds[name][1]:.4g})" if name in bounds else ""
        lines.append(f"{name:{width}}  {value:.6g}{interval}")
    write_text(folder / "report.txt", "\n".join(lines) + "\n")


def _make_plain(value: Any) -> Any:
    """The same for JSON: tables and lists as they are, and null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): _make_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def average_defined(values: Iterable[float]) -> float:
    """Average the values that are defined; NaN when there is none.

    Example:
        >>> average_defined([1.0, math.nan, 2.0])
        1.5
    """
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
