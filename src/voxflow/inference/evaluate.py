"""Owns evaluation: an exported model on labelled cases, in the original images' geometry."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.inference.cases import Failures, read_volumes
from voxflow.inference.engines import EngineChoice  # noqa: TC001 - pydantic reads it
from voxflow.inference.overlap import Overlap, overlap
from voxflow.inference.overlays import write_overlay
from voxflow.inference.predict import PredictOptions, label_names
from voxflow.inference.run import classified, segmented
from voxflow.inference.scores import accuracy, class_scores, roc_rows
from voxflow.inference.tables import mean_of, write_dice_report, write_predictions, write_table
from voxflow.inference.writing import Sheet
from voxflow.volumes import read_volume, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.inference.cases import InferenceCase
    from voxflow.inference.engines import Engine
    from voxflow.inference.run import Classified, Segmented
    from voxflow.inference.scores import ClassScore
    from voxflow.volumes import Volume

Metrics = dict[str, float | int]
Scores = dict[str, dict[str, Overlap]]  # case → class → overlap

REMARKS = {"empty in reference and mask": "empty", "empty in the mask": "missed", "empty in the reference": "invented"}


class EvaluateOptions(PredictOptions):
    """What evaluation does.

    Attributes:
        engine: which engine runs the model.
        key: the datalist's key that holds the cases.
    """

    engine: EngineChoice = "auto"
    key: str = "testing"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: flat numbers; a value that is not defined is left out.
        failures: the cases that could not be used.
    """

    metrics: Metrics
    failures: Failures


def evaluate_segmentation(
    engine: Engine, cases: Sequence[InferenceCase], out: Path, options: EvaluateOptions
) -> Evaluation:
    """Segment every case, compare it with its mask on its own grid, and write what was found.

    Args:
        engine: the model.
        cases: labelled cases.
        out: an existing folder; gets per_case.csv, mean_dice.txt, CLASS_dice_report.txt, masks/CASE.nii.gz,
            overlays/best_CASE.png, overlays/worst_CASE.png, failures.json.
        options: window plan and way back.

    Raises:
        OSError: a result could not be written.
    """
    failures = Failures()
    names = label_names(engine.spec)
    scores: Scores = {}
    for done in segmented(engine, cases, options, failures):
        found = failures.attempt(done.case, partial(_compare, done, names))
        if found is not None:
            scores[done.case.id] = found
            write_volume(out / "masks" / f"{done.case.id}.nii.gz", done.prediction.mask)
    metrics = _write_scores(scores, list(names.values()), out)
    _write_best_and_worst({case.id: case for case in cases}, scores, names, out)
    failures.write(out)
    return Evaluation(_counted(metrics, len(scores), failures), failures)


def evaluate_classification(engine: Engine, cases: Sequence[InferenceCase], out: Path) -> Evaluation:
    """Classify every case, compare with its findings, and write what was found.

    Args:
        engine: the model.
        cases: labelled cases.
        out: an existing folder; gets per_case.csv, per_class.csv, roc.csv, preds_outputs.csv, preds.csv,
            overlays/contact_sheet.png, failures.json.

    Raises:
        OSError: a result could not be written.
    """
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
    metrics = _write_classes(done, names, out, exclusive=engine.spec.activation == "softmax")
    failures.write(out)
    return Evaluation(_counted(metrics, len(done), failures), failures)


def findings_of(case: InferenceCase, classes: int) -> tuple[int, ...]:
    """The case's findings, 0 or 1 by class.

    Raises:
        DataError: it has none, or another number of them.
    """
    if not isinstance(case.label, tuple) or len(case.label) != classes:
        raise DataError(f"expected {classes} findings of 0 or 1, the case has {case.label!r}")
    return case.label


def _compare(done: Segmented, names: dict[int, str]) -> dict[str, Overlap]:
    reference = _reference(done.case)
    return {name: overlap(done.prediction.mask, reference, value) for value, name in names.items()}


def _reference(case: InferenceCase) -> Volume:
    if not isinstance(case.label, Path):
        raise DataError("the case has no mask to compare with")
    return read_volume(case.label)


def _write_scores(scores: Scores, names: Sequence[str], out: Path) -> Metrics:
    """Write the per-case table and the text reports; return the means."""
    rows = [_row(case, by_class) for case, by_class in scores.items()]
    kinds = ("dice", "jaccard", "hd95_mm", "volume_error_ml")
    columns = ["case", "mean_dice", *(f"{kind}_{name}" for name in names for kind in kinds), "remark"]
    write_table(out / "per_case.csv", rows, columns)
    mean = write_dice_report(out / "mean_dice.txt", ((row["case"], row["mean_dice"]) for row in rows))
    metrics: Metrics = {"mean_dice": mean}
    for name in names:
        found = {case: by_class[name] for case, by_class in scores.items()}
        dices = ((case, each.dice) for case, each in found.items())
        metrics[f"dice_{name}"] = write_dice_report(out / f"{_file_name(name)}_dice_report.txt", dices)
        for kind, short in (("jaccard", "jaccard"), ("hd95_mm", "hd95"), ("volume_error_ml", "volume_error_ml")):
            metrics[f"{short}_{name}"] = mean_of(getattr(each, kind) for each in found.values())
        for remark, short in REMARKS.items():
            metrics[f"{short}_{name}"] = sum(each.remark == remark for each in found.values())
    return metrics


def _row(case: str, by_class: dict[str, Overlap]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case, "mean_dice": mean_of(each.dice for each in by_class.values())}
    for name, each in by_class.items():
        row |= {f"{kind}_{name}": value for kind, value in asdict(each).items() if kind != "remark"}
    row["remark"] = "; ".join(f"{name}: {each.remark}" for name, each in by_class.items() if each.remark)
    return row


def _write_best_and_worst(cases: dict[str, InferenceCase], scores: Scores, names: dict[int, str], out: Path) -> None:
    means = {case: mean_of(each.dice for each in by_class.values()) for case, by_class in scores.items()}
    ranked = sorted((case for case in means if not math.isnan(means[case])), key=lambda case: (-means[case], case))
    chosen = {"best": ranked[0], "worst": ranked[-1]} if ranked else {}
    for what, case in chosen.items():
        image, reference = read_volumes(cases[case])[0], _reference(cases[case])
        mask = read_volume(out / "masks" / f"{case}.nii.gz")
        title = f"{what}: {case}  Dice {means[case]:.3f}"
        write_overlay(out / "overlays" / f"{what}_{case}.png", image, mask, names, label=reference, title=title)


def _write_classes(done: Sequence[Classified], names: Sequence[str], out: Path, *, exclusive: bool) -> Metrics:
    """Write the tables of a classification; return the means over the classes that have an AUC."""
    truth = np.array([each.case.label for each in done], dtype=int).reshape(len(done), len(names))
    chances = np.array([list(each.chances.values()) for each in done], dtype=float).reshape(len(done), len(names))
    scored = class_scores(truth, chances, names) if done else []
    write_table(
        out / "per_class.csv",
        [asdict(each) for each in scored],
        ["name", "positives", "negatives", "auc", "average_precision", "accuracy"],
    )
    write_table(out / "roc.csv", roc_rows(truth, chances, names), ["class", "fpr", "tpr"])
    labels = [dict(zip(names, each.case.label or (), strict=True)) for each in done]  # type: ignore[arg-type]
    rows = [
        {"case": each.case.id} | label | {f"probability_{name}": chance for name, chance in each.chances.items()}
        for each, label in zip(done, labels, strict=True)
    ]
    write_table(out / "per_case.csv", rows, ["case", *names, *(f"probability_{name}" for name in names)])
    write_predictions(out, prediction_rows(done), prediction_columns(names))
    metrics = _class_metrics(scored)
    return metrics | ({"accuracy": accuracy(truth, chances, exclusive=exclusive)} if done else {})


def prediction_columns(names: Sequence[str]) -> list[str]:
    """Columns of a classification's preds_outputs.csv."""
    return ["case", "image", *names]


def prediction_rows(done: Sequence[Classified]) -> list[dict[str, Any]]:
    """Rows of a classification's preds_outputs.csv: the probability of each class."""
    return [{"case": each.case.id, "image": each.case.images[0].name} | each.chances for each in done]


def _class_metrics(scored: Sequence[ClassScore]) -> Metrics:
    defined = [each for each in scored if each.auc is not None]
    metrics: Metrics = {
        "mean_auc": mean_of(each.auc for each in defined if each.auc is not None),
        "mean_average_precision": mean_of(
            each.average_precision for each in defined if each.average_precision is not None
        ),
        "classes_without_auc": len(scored) - len(defined),
    }
    for each in scored:
        metrics[f"auc_{each.name}"] = math.nan if each.auc is None else each.auc
        metrics[f"average_precision_{each.name}"] = (
            math.nan if each.average_precision is None else each.average_precision
        )
        metrics[f"accuracy_{each.name}"] = each.accuracy
    return metrics


def _counted(metrics: Metrics, cases: int, failures: Failures) -> Metrics:
    defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
    return defined | {"cases": cases, "failed_cases": len(failures.cases)}


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
