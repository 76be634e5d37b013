"""Reads per_case.csv back: the scores of one model, case by case and class by class."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.evaluation import FAILED_REMARK
from voxflow.tables import read_csv_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DICE, PROBABILITY = "dice_", "probability_"
# What the columns are called tells the task.
TASKS = {PROBABILITY: "classification", DICE: "segmentation"}


@dataclass(frozen=True, eq=False)
class CaseScores:
    """The scores of each case in one evaluation.

    Attributes:
        task: "segmentation" (values are Dice, NaN where undefined) or "classification" (values are probabilities).
        classes: names.
        values: for each case one number a class.
        truth: classification: 0 or 1 by case, one a class; empty for a segmentation.
        failed: the cases that could not be evaluated, which have no values.
    """

    task: str
    classes: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    truth: Mapping[str, tuple[int, ...]]
    failed: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases, sorted."""
        return tuple(sorted(self.values))

    @property
    def key_metric(self) -> str:
        """The name of the score that the models are compared by."""
        return "mean Dice" if self.task == "segmentation" else "mean AUC"

    def array(self, cases: Sequence[str]) -> NDArray[np.float64]:
        """Return the values as an array (case, class).

        Args:
            cases: the rows, in this order; a case that is not there is a row of NaN.
        """
        missing = (math.nan,) * len(self.classes)
        return np.array([self.values.get(case, missing) for case in cases], float).reshape(len(cases), -1)


def read_scores(path: Path) -> CaseScores:
    """Read what the stage evaluate wrote.

    Raises:
        DataError: the file is missing, or no table by case.
    """
    try:
        text, delimiter = read_csv_text(path)
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        columns, rows = list(reader.fieldnames or []), list(reader)
    except FileNotFoundError as error:
        raise DataError("file not found; the stage evaluate writes it", path=path) from error
    except csv.Error as error:
        raise DataError(f"not a CSV table: {error}", path=path) from error
    classes_by_prefix = {
        prefix: tuple(c.removeprefix(prefix) for c in columns if c.startswith(prefix)) for prefix in TASKS
    }
    # A table of a classification has both the probability and, under the class's own name, the truth.
    prefix = next((prefix for prefix, classes in classes_by_prefix.items() if classes), "")
    if not prefix or "case" not in columns:
        raise DataError(f"expected columns case and {DICE}CLASS or {PROBABILITY}CLASS, found {columns}", path=path)
    task, classes = TASKS[prefix], classes_by_prefix[prefix]
    failed = tuple(row["case"] for row in rows if (row.get("remark") or "").startswith(FAILED_REMARK))
    rows = [row for row in rows if row["case"] not in failed]
    try:
        values = {row["case"]: tuple(_parse_score(row[prefix + name]) for name in classes) for row in rows}
        truth_rows = rows if task == "classification" else []
        truth = {row["case"]: tuple(int(float(row[name])) for name in classes) for row in truth_rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a score is no number: {error}", path=path) from error
    return CaseScores(task, classes, values, truth, failed)


def _parse_score(text: str) -> float:
    return float(text) if text else math.nan
