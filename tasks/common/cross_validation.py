"""The scores of a cross-validation: what each fold's model reached on its held-out cases, their mean and spread."""

from __future__ import annotations

import json
from statistics import mean, stdev
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.evaluation import pool_held_out
from voxflow.tables import read_rows, write_table

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.common.folds import EnsembleStage

Numbers = dict[str, float]
COUNTS = {"cases", "failed_cases"}


def read_scores(stage: EnsembleStage) -> dict[int, Numbers]:
    """Read what each fold's model reached on the cases that it never saw, by the fold's number.

    Raises:
        DataError: a fold has not been evaluated.
    """
    scores = {}
    for number in stage.numbers:
        path = stage.fold(number, "evaluate").metrics
        try:
            scores[number] = {
                name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()
            }
        except FileNotFoundError as error:
            raise DataError("file not found; the stage evaluate_fold writes it", path=path) from error
    return scores


def summarise(scores: dict[int, Numbers]) -> Numbers:
    """Mean and sample standard deviation, over the folds, of every score that all of them have.

    Example:
        >>> summarise({1: {"cases": 2, "mean_dice": 0.75}, 2: {"cases": 3, "mean_dice": 0.25}})
        {'folds/mean_dice': 0.5, 'folds/mean_dice_std': 0.3535533905932738}
    """
    summary: Numbers = {}
    for name in _common_names(scores):
        values = [numbers[name] for numbers in scores.values()]
        summary[f"folds/{name}"] = mean(values)
        summary[f"folds/{name}_std"] = stdev(values) if len(values) > 1 else 0.0
    return summary


def pool_radiographs(stage: EnsembleStage, samples: int) -> Numbers:
    """Score all held-out radiographs at once; see :func:`voxflow.evaluation.pool_held_out`."""
    tables = [stage.fold(number, "evaluate").evaluation / "held_out" / "per_case.csv" for number in stage.numbers]
    rows = read_rows(stage.datalists / "split.csv") or []
    return pool_held_out(tables, {row["case"]: row["patient"] for row in rows}, samples=samples)


def write_comparison(
    stage: EnsembleStage, scores: dict[int, Numbers], summary: Numbers, unseen: Numbers, pooled: Numbers
) -> Path:
    """Write one row a fold, their mean and spread, and the ensemble on the cases that no fold saw.

    Args:
        stage: whose folder gets the table.
        scores: of :func:`read_scores`.
        summary: of :func:`summarise`.
        unseen: the ensemble's own scores.
        pooled: of :func:`pool_radiographs`; empty: no row.

    Returns:
        The table's path.
    """
    names = _common_names(scores)
    rows = [{"model": f"fold {number}", "on": "held-out cases", **numbers} for number, numbers in scores.items()]
    rows.append({"model": "mean", "on": "held-out cases"} | {name: summary[f"folds/{name}"] for name in names})
    rows.append({"model": "std", "on": "held-out cases"} | {name: summary[f"folds/{name}_std"] for name in names})
    if pooled:
        rows.append({"model": "pooled", "on": "held-out cases", **pooled})
    rows.append({"model": "ensemble", "on": "unseen cases", **unseen})
    table = stage.evaluation / "cross_validation.csv"
    write_table(table, rows, ["model", "on", "cases", *names])
    return table


def _common_names(scores: dict[int, Numbers]) -> list[str]:
    first, *later = scores.values()
    return [name for name in first if name not in COUNTS and all(name in numbers for numbers in later)]
