"""Evaluates a classifier: its probabilities against the findings of radiographs, by class."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.evaluation.curves import write_curves
from voxflow.evaluation.reliability import pair_held_out, pair_unseen, write_reliability
from voxflow.evaluation.reports import average_defined, make_failed_rows, write_summary
from voxflow.evaluation.scores import (
    MEASURES,
    Scores,
    compute_accuracy,
    make_calibration_rows,
    make_roc_rows,
    score_classes,
)
from voxflow.evaluation.segmentation import EvaluateOptions, EvaluationResult, complete_metrics
from voxflow.inference import ContactSheet, Failures, classify_cases, make_prediction_rows, name_prediction_columns
from voxflow.tables import write_predictions, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.inference import ClassifiedCase, InferenceCase, Metrics
    from voxflow.trust import HeldOutRadiograph, RadiographReviewer


def evaluate_classification(
    engine: Engine,
    cases: Sequence[InferenceCase],
    out: Path,
    options: EvaluateOptions | None = None,
    *,
    reviewer: RadiographReviewer | None = None,
    held_out: Sequence[HeldOutRadiograph] = (),
) -> EvaluationResult:
    """Classify every case, compare with its findings, and write what was found.

    Args:
        engine: the model.
        cases: labelled cases.
        out: an existing folder; gets summary.json and report.txt, which begin with what failed, per_case.csv,
            per_class.csv, roc.csv, calibration.csv, preds_outputs.csv, preds.csv, overlays/contact_sheet.png,
            overlays/curves.png, failures.json; with a calibration also reliability.csv, reliability_bins.csv and
            overlays/reliability.png.
        options: specificity and intervals.
        reviewer: calibrates the probabilities that are scored; None: nobody.
        held_out: the radiographs that the calibration was fitted to.

    Raises:
        OSError: a result could not be written.
    """
    options = options or EvaluateOptions()
    failures = Failures()
    names = engine.spec.class_names
    results: list[ClassifiedCase] = []
    sheet = ContactSheet()
    for result in classify_cases(engine, cases, failures, options, reviewer):
        label = failures.attempt(result.case, lambda result=result: require_findings(result.case, len(names)))  # type: ignore[misc]
        if label is not None:
            results.append(result)
            truth = " + ".join(name for name, has in zip(names, label, strict=True) if has)
            sheet.add(result.case.id, result.image, result.probabilities, truth or "none")
    sheet.write(out / "overlays" / "contact_sheet.png")
    is_exclusive = engine.spec.activation == "softmax"
    metrics = _write_classes(results, names, failures, out, options, exclusive=is_exclusive, reviewer=reviewer)
    if reviewer is not None:
        metrics |= write_reliability(out, [pair_held_out(held_out), pair_unseen(results)], reviewer.calibration)
    failures.write(out)
    return EvaluationResult(metrics, failures)


def require_findings(case: InferenceCase, classes: int) -> tuple[int, ...]:
    """The case's findings, 0 or 1 by class.

    Raises:
        DataError: it has none, or another number of them.
    """
    if not isinstance(case.label, tuple) or len(case.label) != classes:
        raise DataError(f"expected {classes} findings of 0 or 1, the case has {case.label!r}")
    return case.label


def _write_classes(
    results: Sequence[ClassifiedCase],
    names: Sequence[str],
    failures: Failures,
    out: Path,
    options: EvaluateOptions,
    *,
    exclusive: bool,
    reviewer: RadiographReviewer | None,
) -> Metrics:
    """Write tables, pictures and summary; return the metrics, means over the classes that have an AUC."""
    truth = np.array([score.case.label for score in results], dtype=int).reshape(len(results), len(names))
    probabilities = np.array([list(score.probabilities.values()) for score in results], dtype=float).reshape(
        len(results), len(names)
    )
    scores = Scores((), {})
    if results:
        scores = score_classes(truth, probabilities, names, specificity=options.specificity, samples=options.bootstrap)
    class_columns = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    write_table(out / "per_class.csv", _make_class_rows(scores), ["name", "positives", "negatives", *class_columns])
    curves, bins = make_roc_rows(truth, probabilities, names), make_calibration_rows(truth, probabilities, names)
    write_table(out / "roc.csv", curves, ["class", "fpr", "tpr"])
    bin_columns = ["class", "low", "high", "cases", "mean_probability", "share_positive"]
    write_table(out / "calibration.csv", bins, bin_columns)
    if bins:
        write_curves(out / "overlays" / "curves.png", curves, bins)
    _write_cases(results, names, failures, out, reviewer)
    metrics = _make_class_metrics(scores)
    if results:
        metrics["accuracy"] = compute_accuracy(truth, probabilities, exclusive=exclusive)
    metrics = complete_metrics(metrics, len(results), failures)
    intervals = scores.intervals | {
        f"{measure}_{score.name}": interval for score in scores.classes for measure, interval in score.intervals.items()
    }
    more = {"specificity": options.specificity, "per_class": [asdict(score) for score in scores.classes]}
    write_summary(out, failures.rows, metrics, intervals, more)
    return metrics


def _write_cases(
    results: Sequence[ClassifiedCase],
    names: Sequence[str],
    failures: Failures,
    out: Path,
    reviewer: RadiographReviewer | None,
) -> None:
    labels = [dict(zip(names, result.case.label or (), strict=True)) for result in results]  # type: ignore[arg-type]
    rows = [
        {"case": result.case.id}
        | label
        | {f"probability_{name}": probability for name, probability in result.probabilities.items()}
        | (result.trust.as_row() if result.trust else {})
        for result, label in zip(results, labels, strict=True)
    ]
    trust_columns = reviewer.name_columns(names) if reviewer else []
    columns = ["case", *names, *(f"probability_{name}" for name in names), *trust_columns, "remark"]
    failed = make_failed_rows(failures.rows, {result.case.id for result in results})
    write_table(out / "per_case.csv", [*failed, *rows], columns)
    write_predictions(out, make_prediction_rows(results), name_prediction_columns(names, reviewer))


def _make_class_rows(scores: Scores) -> list[dict[str, Any]]:
    rows = []
    for score in scores.classes:
        row = asdict(score)
        for measure, (low, high) in row.pop("intervals").items():
            row |= {f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    return rows


def _make_class_metrics(scores: Scores) -> Metrics:
    defined = [score for score in scores.classes if score.auc is not None]
    metrics: Metrics = {
        "mean_auc": average_defined(score.auc for score in defined if score.auc is not None),
        "mean_average_precision": average_defined(
            score.average_precision for score in defined if score.average_precision is not None
        ),
        "classes_without_auc": len(scores.classes) - len(defined),
    }
    for score in scores.classes:
        for measure in MEASURES:
            value = getattr(score, measure)
            metrics[f"{measure}_{score.name}"] = math.nan if value is None else value
    return metrics
