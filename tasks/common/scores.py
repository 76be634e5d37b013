"""Writes what DVC shows of an evaluation: a few scores for its tables, and the tables of its plots.

All numbers stay in evaluate.json; ``dvc metrics show`` and ``dvc exp show`` list the few that runs are compared by.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.datalist import Datalist
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory, write_json
from voxflow.progress import say
from voxflow.tables import read_rows, write_table
from voxflow.trust import leave_uncalibrated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.common.stage import Stage

# By the names that the tables of DVC show. Further ones make them wider than a screen.
CHOSEN = {"mean_dice": "dice", "mean_auc": "auc"}
FAILED = "failed_cases"
DICE, PROBABILITY = "dice_", "probability_"
TEST_KEY = "testing"
PER_CASE, ROC = ("case", "class", "score"), ("class", "fpr", "tpr")


def write_scores(stage: Stage, numbers: Mapping[str, float], prefix: str = "") -> None:
    """Write the chosen scores beside the stage's numbers, below the workspace's name: a column of DVC's for each."""
    chosen = {f"{prefix}{name}": round(numbers[key], 4) for key, name in CHOSEN.items() if key in numbers}
    # A bundle names its metrics itself.
    chosen = chosen or {f"{prefix}{key}": round(value, 4) for key, value in list(numbers.items())[:2]}
    # A column only where a case has failed.
    chosen |= {f"{prefix}failed": numbers[FAILED]} if numbers.get(FAILED) else {}
    write_json(stage.metrics.with_name("scores.json"), {stage.workspace: chosen})


def write_plots(stage: Stage, folder: Path) -> None:
    """Write the tables of DVC's plots: scores by case and class, and ROC.

    Args:
        stage: of a workspace, not of a fold.
        folder: of the evaluation, with per_case.csv and, of a classification, roc.csv.
    """
    plots = Path("data/plots") / stage.workspace
    plots.mkdir(parents=True, exist_ok=True)
    rows = [row for case in read_rows(folder / "per_case.csv") or [] for row in _list_scores(case)]
    write_table(plots / "per_case.csv", rows, PER_CASE)
    write_table(plots / "roc.csv", read_rows(folder / "roc.csv") or [], ROC)


def is_without_test(stage: Stage, key: str) -> bool:
    """Whether no labelled case was set aside for the test; another key that has no case is a mistake.

    Args:
        stage: whose datalist is read.
        key: of the cases to evaluate on.
    """
    return key == TEST_KEY and not Datalist.read(stage.datalist, stage.resampled).parts.get(key)


def leave_unjudged(stage: Stage) -> int:
    """Write an evaluation of no case, so that the stage infer, which needs no labels, can follow.

    The promotion refuses a model without scores.
    """
    out = stage.evaluation / "test"
    with atomic_directory(out) as folder:
        leave_uncalibrated(folder)
    write_json(stage.metrics, {"cases": 0})
    write_scores(stage, {"cases": 0})
    write_plots(stage, out)
    say(f"evaluate {stage.title}: no labelled case under {TEST_KEY!r}, so the model stays without a score → {out}")
    return EXIT_OK


def _list_scores(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The Dice of each class, or how near each probability is to the truth; nothing of a case that has none."""
    for column, text in row.items():
        if not text:
            continue
        if column.startswith(DICE):
            yield {"case": row["case"], "class": column.removeprefix(DICE), "score": text}
        elif column.startswith(PROBABILITY):
            name = column.removeprefix(PROBABILITY)
            score = 1 - abs(float(row[name]) - float(text))
            yield {"case": row["case"], "class": name, "score": f"{score:.6f}"}
