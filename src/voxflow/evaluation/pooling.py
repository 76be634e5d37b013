"""Scores a cross-validation of a classifier on all held-out cases at once, each judged by the fold that held it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.evaluation.scores import score_classes
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROBABILITY = "probability_"


def pool_held_out(tables: Sequence[Path], patients: Mapping[str, str], *, samples: int = 1000) -> dict[str, float]:
    """Compute the AUC over the held-out cases of all folds, with an interval that draws patients anew.

    Args:
        tables: each fold's per_case.csv.
        patients: the patient of each case; a case that is not there is a patient of its own.
        samples: how many times patients are drawn; 0: no interval.

    Returns:
        "mean_auc", with "mean_auc_low" and "mean_auc_high" where there is an interval, and "auc_NAME" of each finding
        that has one; nothing where no table has a case.
    """
    rows = [row for table in tables for row in read_rows(table) or []]
    columns = [name for name in (rows[0] if rows else {}) if name.startswith(PROBABILITY)]
    rows = [row for row in rows if all(row.get(name) for name in columns)]
    names = [name.removeprefix(PROBABILITY) for name in columns]
    if not rows or not names:
        return {}
    truth = np.array([[int(row[name]) for name in names] for row in rows])
    probabilities = np.array([[float(row[name]) for name in columns] for row in rows])
    groups = [patients.get(row["case"], f"case {row['case']}") for row in rows]
    scores = score_classes(truth, probabilities, names, samples=samples, patients=groups)
    areas = {f"auc_{score.name}": score.auc for score in scores.classes if score.auc is not None}
    if not areas:
        return {}
    low_and_high = dict(zip(("mean_auc_low", "mean_auc_high"), scores.intervals.get("mean_auc", ()), strict=False))
    return {"mean_auc": float(np.mean(list(areas.values()))), **low_and_high, **areas}
