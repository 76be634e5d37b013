"""Tells what a calibration of radiograph findings is worth: reliability, Brier score and error before and after it.

What fitted the calibration is calibrated by the other folds, or the other fifths of the patients (cross-fitting), so
that no radiograph speaks for its own calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.evaluation.curves import write_reliability_diagram
from voxflow.evaluation.scores import make_calibration_rows, score_classes
from voxflow.tables import write_table
from voxflow.trust import build_radiograph_calibration, cross_fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.inference import ClassifiedCase, Metrics
    from voxflow.trust import HeldOutRadiograph, RadiographCalibration

HELD_OUT, UNSEEN = "held-out cases, each calibrated by others", "unseen cases"
TABLE, BINS, DIAGRAM = "reliability.csv", "reliability_bins.csv", "reliability.png"
STATES = ("before", "after")
COLUMNS = (
    "finding",
    "on",
    "radiographs",
    "positives",
    "brier_before",
    "brier_after",
    "ece_before",
    "ece_after",
    "slope",
    "intercept",
    "label_sets_right",
    "label_sets_single",
)
BIN_COLUMNS = ("finding", "on", "state", "low", "high", "radiographs", "mean_probability", "share_positive")


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Radiographs with their probabilities before and after a calibration.

    Attributes:
        on: what they are, in words.
        truth: 0 or 1, (radiograph, finding).
        before, after: probabilities, (radiograph, finding).
        label_sets: by radiograph, of each finding "present", "absent", "either" or "neither"; empty: not told.
    """

    on: str
    truth: NDArray[Any]
    before: NDArray[Any]
    after: NDArray[Any]
    label_sets: tuple[tuple[str, ...], ...] = ()


def pair_held_out(radiographs: Sequence[HeldOutRadiograph]) -> Calibrated:
    """Pair the probabilities of held-out radiographs with those that the others calibrate them to."""
    usable = [radiograph for radiograph in radiographs if not radiograph.is_learned]
    truth = np.array([radiograph.truth for radiograph in usable], dtype=int)
    before = np.array([radiograph.probabilities for radiograph in usable], dtype=float)
    return Calibrated(HELD_OUT, truth, before, cross_fit(usable))


def list_reliability(radiographs: Sequence[HeldOutRadiograph], names: Sequence[str]) -> list[dict[str, Any]]:
    """List the rows of reliability.csv for held-out radiographs alone, of models that are at hand no more."""
    models = 1 + max(radiograph.model for radiograph in radiographs)
    calibration = build_radiograph_calibration(radiographs, names, models=[{}] * models, settings={}, part="")
    return _score_part(pair_held_out(radiographs), calibration)


def pair_unseen(results: Sequence[ClassifiedCase]) -> Calibrated:
    """Pair the probabilities of unseen radiographs, which a calibration was applied to."""
    trusts = [result.trust for result in results if result.trust is not None]
    return Calibrated(
        UNSEEN,
        np.array([result.case.label for result in results if result.trust is not None], dtype=int),
        np.array([list(trust.uncalibrated.values()) for trust in trusts], dtype=float),
        np.array([list(trust.probabilities.values()) for trust in trusts], dtype=float),
        tuple(tuple(trust.labels.values()) for trust in trusts),
    )


def write_reliability(out: Path, parts: Sequence[Calibrated], calibration: RadiographCalibration) -> Metrics:
    """Write reliability.csv, reliability_bins.csv, and the diagram of the first part.

    Args:
        out: the folder.
        parts: the held-out radiographs, and the unseen ones; those without a radiograph are left out.
        calibration: what is judged.

    Returns:
        Means over the findings that are corrected, such as "held_out_brier" and "held_out_brier_uncalibrated"; of the
        unseen ones "mean_brier" and "mean_ece", and how many label sets of all findings are right, and single labels.
    """
    parts = [part for part in parts if len(part.truth)]
    rows = [row for part in parts for row in _score_part(part, calibration)]
    bins = [row for part in parts for row in _list_bins(part, list(calibration.findings))]
    write_table(out / TABLE, rows, COLUMNS)
    write_table(out / BINS, bins, BIN_COLUMNS)
    if parts:
        shown = [row for row in bins if row["on"] == parts[0].on and row["finding"] in calibration.corrected]
        write_reliability_diagram(out / "overlays" / DIAGRAM, shown, title=parts[0].on)
    return _average(rows, calibration.corrected)


def _score_part(part: Calibrated, calibration: RadiographCalibration) -> list[dict[str, Any]]:
    names = list(calibration.findings)
    before = score_classes(part.truth, part.before, names, samples=0).classes
    after = score_classes(part.truth, part.after, names, samples=0).classes
    rows = []
    for number, (name, finding) in enumerate(calibration.findings.items()):
        row = {
            "finding": name,
            "on": part.on,
            "radiographs": len(part.truth),
            "positives": before[number].positives,
            "brier_before": before[number].brier,
            "brier_after": after[number].brier,
            "ece_before": before[number].ece,
            "ece_after": after[number].ece,
            "slope": finding.slope,
            "intercept": finding.intercept,
        }
        if part.label_sets:
            labels = [label_set[number] for label_set in part.label_sets]
            right = [_holds(own, bool(has)) for own, has in zip(labels, part.truth[:, number], strict=True)]
            single = [own in ("present", "absent") for own in labels]
            row |= {"label_sets_right": float(np.mean(right)), "label_sets_single": float(np.mean(single))}
        rows.append(row)
    return rows


def _holds(labels: str, has: bool) -> bool:
    return labels in ("either", "present" if has else "absent")


def _list_bins(part: Calibrated, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for state, probabilities in zip(STATES, (part.before, part.after), strict=True):
        for row in make_calibration_rows(part.truth, probabilities, names):
            finding, count = row.pop("class"), row.pop("cases")
            rows.append({"finding": finding, "on": part.on, "state": state, "radiographs": count, **row})
    return rows


def _average(rows: Sequence[dict[str, Any]], corrected: Sequence[str]) -> Metrics:
    metrics: Metrics = {}
    for on, prefix in ((HELD_OUT, "held_out"), (UNSEEN, "mean")):
        own = [row for row in rows if row["on"] == on]
        chosen = [row for row in own if row["finding"] in corrected]
        for measure in ("brier", "ece") if chosen else ():
            metrics[f"{prefix}_{measure}"] = float(np.mean([row[f"{measure}_after"] for row in chosen]))
            before = [row[f"{measure}_before"] for row in chosen]
            metrics[f"{prefix}_{measure}_uncalibrated"] = float(np.mean(before))
        for measure in ("label_sets_right", "label_sets_single") if on == UNSEEN and own else ():
            metrics[measure] = float(np.mean([row[measure] for row in own]))
    return metrics
