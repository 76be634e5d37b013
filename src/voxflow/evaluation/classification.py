"""Owns the evaluation of classifications: probabilities against findings, by class."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.evaluation.curves import write_curves
from voxflow.evaluation.reports import failed_rows, mean_of, write_summary
from voxflow.evaluation.scores import MEASURES, Scores, accuracy, calibration_rows, roc_rows, score_classes
from voxflow.evaluation.segmentation import EvaluateOptions, Evaluation, counted
from voxflow.inference import Failures, Sheet, classified, prediction_columns, prediction_rows
from voxflow.tables import write_predictions, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.inference import Classified, InferenceCase, Metrics


def evaluate_classification(
    engine: Engine, cases: Sequence[InferenceCase], out: Path, options: EvaluateOptions | None = None
) -> Evaluation:
    """Classify every case, compare with its findings, and write what was found.

    Args:
        engine: the model.
        cases: labelled cases.
        out: an existing folder; gets summary.json and report.txt, which begin with what failed, per_case.csv,
            per_class.csv, roc.csv, calibration.csv, preds_outputs.csv, preds.csv, overlays/contact_sheet.png,
            overlays/curves.png, failures.json.
        options: specificity and intervals.

    Raises:
        OSError: a result could not be written.
    """
    options = options or EvaluateOptions()
    failures = Failures()
    names = engine.spec.class_names
    done: list[Classified] = []
    sheet = Sheet()
    for each in classified(engine, cases, failures):
        label = failures.attempt(each.case, lambda each=each: findings_of(each.case, len(names)))  # type: ignore[misc]
        if label is not None:
            done.append(each)
            truth = " + ".join(name for name, has in zip(names, label, strict=True) if has)
            sheet.add(each.case.id, each.image, each.chances, truth or "none")
    sheet.write(out / "overlays" / "contact_sheet.png")
    metrics = _write_classes(done, names, failures, out, options, exclusive=engine.spec.activation == "softmax")
    failures.write(out)
    return Evaluation(metrics, failures)


def findings_of(case: InferenceCase, classes: int) -> tuple[int, ...]:
    """The case's findings, 0 or 1 by class.

    Raises:
        DataError: it has none, or another number of them.
    """
    if not isinstance(case.label, tuple) or len(case.label) != classes:
        raise DataError(f"expected {classes} findings of 0 or 1, the case has {case.label!r}")
    return case.label


def _write_classes(
    done: Sequence[Classified],
    names: Sequence[str],
    failures: Failures,
    out: Path,
    options: EvaluateOptions,
    *,
    exclusive: bool,
) -> Metrics:
    """Write tables, pictures and summary; return the metrics, means over the classes that have an AUC."""
    truth = np.array([each.case.label for each in done], dtype=int).reshape(len(done), len(names))
    chances = np.array([list(each.chances.values()) for each in done], dtype=float).reshape(len(done), len(names))
    scores = Scores((), {})
    if done:
        scores = score_classes(truth, chances, names, specificity=options.specificity, samples=options.bootstrap)
    class_columns = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    write_table(out / "per_class.csv", _class_rows(scores), ["name", "positives", "negatives", *class_columns])
    curves, bins = roc_rows(truth, chances, names), calibration_rows(truth, chances, names)
    write_table(out / "roc.csv", curves, ["class", "fpr", "tpr"])
    bin_columns = ["class", "low", "high", "cases", "mean_probability", "share_positive"]
    write_table(out / "calibration.csv", bins, bin_columns)
    if bins:
        write_curves(out / "overlays" / "curves.png", curves, bins)
    _write_cases(done, names, failures, out)
    metrics = _class_metrics(scores)
    if done:
        metrics["accuracy"] = accuracy(truth, chances, exclusive=exclusive)
    metrics = counted(metrics, len(done), failures)
    intervals = scores.intervals | {
        f"{measure}_{each.name}": interval for each in scores.classes for measure, interval in each.intervals.items()
    }
    more = {"specificity": options.specificity, "per_class": [asdict(each) for each in scores.classes]}
    write_summary(out, failures.rows, metrics, intervals, more)
    return metrics


def _write_cases(done: Sequence[Classified], names: Sequence[str], failures: Failures, out: Path) -> None:
    labels = [dict(zip(names, each.case.label or (), strict=True)) for each in done]  # type: ignore[arg-type]
    rows = [
        {"case": each.case.id} | label | {f"probability_{name}": chance for name, chance in each.chances.items()}
        for each, label in zip(done, labels, strict=True)
    ]
    columns = ["case", *names, *(f"probability_{name}" for name in names), "remark"]
    failed = failed_rows(failures.rows, {each.case.id for each in done})
    write_table(out / "per_case.csv", [*failed, *rows], columns)
    write_predictions(out, prediction_rows(done), prediction_columns(names))


def _class_rows(scores: Scores) -> list[dict[str, Any]]:
    rows = []
    for each in scores.classes:
        row = asdict(each)
        for measure, (low, high) in row.pop("intervals").items():
            row |= {f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    return rows


def _class_metrics(scores: Scores) -> Metrics:
    defined = [each for each in scores.classes if each.auc is not None]
    metrics: Metrics = {
        "mean_auc": mean_of(each.auc for each in defined if each.auc is not None),
        "mean_average_precision": mean_of(
            each.average_precision for each in defined if each.average_precision is not None
        ),
        "classes_without_auc": len(scores.classes) - len(defined),
    }
    for each in scores.classes:
        for measure in MEASURES:
            value = getattr(each, measure)
            metrics[f"{measure}_{each.name}"] = math.nan if value is None else value
    return metrics
