"""Evaluates a segmentation model on labelled cases, in the original images' geometry."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat

from voxflow.engines import Device, EngineChoice  # noqa: TC001 - pydantic reads it
from voxflow.errors import DataError, join_names
from voxflow.evaluation.overlap import NAN, NOT_LABELLED, TOLERANCE_MM, Overlap, measure_overlap
from voxflow.evaluation.reports import average_defined, make_failed_rows, write_dice_report, write_summary
from voxflow.evaluation.scores import Interval, compute_mean_interval
from voxflow.inference import Failures, measure_class_volumes, read_volumes, segment_cases, write_overlays
from voxflow.naming import name_files
from voxflow.prediction import PredictOptions, class_values
from voxflow.progress import say
from voxflow.tables import write_table
from voxflow.trust import Observation
from voxflow.volumes import Volume, read_geometry, read_label, read_volume, resample, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.engines import Engine
    from voxflow.geometry import Geometry
    from voxflow.inference import InferenceCase, Metrics, SegmentedCase
    from voxflow.spec import ModelSpec

Scores = dict[str, dict[str, Overlap]]  # case → class → overlap

IGNORED = "ignored_voxels"
MOST_VALUES = 5  # of a label that are named
REMARKS = {"empty in reference and mask": "empty", "empty in the mask": "missed", "empty in the reference": "invented"}
# Measures of a case's class, and what their means are called.
KINDS = {
    "dice": "dice",
    "jaccard": "jaccard",
    "surface_dice": "surface_dice",
    "hd95_mm": "hd95",
    "volume_error_ml": "volume_error_ml",
}


class EvaluateOptions(PredictOptions):
    """What evaluation does.

    Attributes:
        engine: which engine runs the model.
        device: "cpu", "cuda" or, say, "cuda:1"; None: the first GPU where there is one, else the processor.
        key: the datalist's key that holds the cases.
        surface_tolerance_mm: how far apart two surfaces may lie for surface Dice.
        specificity: at which a classification's sensitivity is told.
        bootstrap: how many times the cases are drawn anew for the 95 % intervals; 0: no intervals.
        calibrate: also measure how far the model's answers agree, so that the Dice of new cases has a lower bound; of a
            classifier, correct its probabilities by held-out radiographs, and tell label sets.
    """

    engine: EngineChoice = "auto"
    device: Device | None = None
    key: str = "testing"
    surface_tolerance_mm: PositiveFloat = TOLERANCE_MM
    specificity: float = Field(default=0.9, gt=0, lt=1)
    bootstrap: NonNegativeInt = 1000
    calibrate: bool = False

    @property
    def measures_agreement(self) -> bool:
        """See :class:`voxflow.prediction.PredictOptions`."""
        return self.calibrate


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        metrics: flat numbers; a value that is not defined is left out.
        failures: the cases that could not be used.
        observations: agreement and Dice by case, where that was asked for.
    """

    metrics: Metrics
    failures: Failures
    observations: tuple[Observation, ...] = ()


def evaluate_segmentation(
    engine: Engine, cases: Sequence[InferenceCase], out: Path, options: EvaluateOptions
) -> EvaluationResult:
    """Segment every case, compare it with its mask on its own grid, and write what was found.

    Args:
        engine: the model.
        cases: labelled cases.
        out: an existing folder; gets summary.json and report.txt, which begin with what failed, per_case.csv,
            mean_dice.txt, CLASS_dice_report.txt, masks/CASE.nii.gz, overlays/best_CASE.png,
            overlays/worst_CASE.png, failures.json.
        options: window plan, way back, tolerance, intervals.

    Raises:
        OSError: a result could not be written.
    """
    failures = Failures()
    classes = class_values(engine.spec)
    scores: Scores = {}
    ignored: dict[str, int] = {}
    remarks: dict[str, str] = {}
    observations: list[Observation] = []
    for segmented_case in segment_cases(engine, cases, options, failures):
        overlaps = failures.attempt(
            segmented_case.case,
            partial(_compare, segmented_case, classes, options.surface_tolerance_mm, ignored, remarks),
        )
        if overlaps is not None:
            scores[segmented_case.case.id] = overlaps
            observations += _observe(segmented_case, overlaps, engine.spec)
            write_volume(out / "masks" / f"{segmented_case.case.id}.nii.gz", segmented_case.prediction.mask)
    means = _write_scores(scores, list(classes), failures, out, ignored=ignored, remarks=remarks)
    metrics = complete_metrics(means, len(scores), failures)
    intervals = _compute_intervals(scores, list(classes), options.bootstrap)
    _write_best_and_worst({case.id: case for case in cases}, scores, engine.spec, out)
    failures.write(out)
    per_case = {
        case: {name: asdict(overlap) for name, overlap in by_class.items()} for case, by_class in scores.items()
    }
    write_summary(out, failures.rows, metrics, intervals, {"surface_tolerance_mm": options.surface_tolerance_mm,
                                                           "per_case": per_case})  # fmt: skip
    return EvaluationResult(metrics, failures, tuple(observations))


def _observe(segmented_case: SegmentedCase, overlaps: dict[str, Overlap], spec: ModelSpec) -> list[Observation]:
    """What a case tells of the model's trust; nothing where the agreement was not measured."""
    prediction = segmented_case.prediction
    if prediction.agreement is None:
        return []
    features = segmented_case.features | measure_class_volumes(prediction.mask, spec)
    is_empty = not prediction.mask.array.any()
    score, dice = prediction.agreement.score, _average_dice(overlaps)
    return [Observation(segmented_case.case.id, score, dice, is_empty, features)]


def complete_metrics(metrics: Metrics, cases: int, failures: Failures) -> Metrics:
    """Leave out the metrics that are not defined (NaN), and add how many cases they are of and how many failed."""
    defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
    return defined | {"cases": cases, "failed_cases": len(failures.cases)}


def _compare(
    segmented_case: SegmentedCase,
    classes: dict[str, tuple[int, ...]],
    tolerance_mm: float,
    ignored: dict[str, int],
    remarks: dict[str, str],
) -> dict[str, Overlap]:
    case = segmented_case.case
    reference = read_reference(case, segmented_case.image.geometry)
    mask = segmented_case.prediction.mask
    unknown = sorted(set(case.labelled or ()) - classes.keys())
    if unknown:
        raise DataError(f"labelled names {join_names(unknown)}, which the model does not know")
    strange = _describe_strange_values(reference, classes, case.ignore)
    if strange:
        say(f"warning: case {case.id}: {strange}")
    remarks[case.id] = "; ".join(filter(None, [segmented_case.remark, strange]))
    if case.ignore is not None:
        ignored[case.id] = int((reference.array == case.ignore).sum())
    return {
        name: measure_overlap(mask, reference, values, tolerance_mm, ignore=case.ignore)
        if case.labelled is None or name in case.labelled
        else Overlap(NAN, NAN, NAN, NAN, NAN, NOT_LABELLED)
        for name, values in classes.items()
    }


def _describe_strange_values(reference: Volume, classes: dict[str, tuple[int, ...]], ignore: int | None) -> str:
    """Name the label's values that are no class of the model, nor what nobody labelled; empty where there is none."""
    known = {0, *(value for values in classes.values() for value in values), *(() if ignore is None else (ignore,))}
    is_strange = np.ones(max(int(reference.array.max(initial=0)), *known) + 1, dtype=np.bool_)
    is_strange[list(known)] = False
    places = is_strange[reference.array]
    if not places.any():
        return ""
    values = join_names([str(value) for value in np.unique(reference.array[places])], MOST_VALUES)
    return f"label value {values} is no class of the model, and counts as background"


def read_reference(case: InferenceCase, grid: Geometry) -> Volume:
    """Read a case's label on a mask's grid; one drawn on another channel is brought there as the stage resample does.

    Raises:
        DataError: the case has no label that is a mask.
    """
    if not isinstance(case.label, Path):
        raise DataError("the case has no mask to compare with")
    if len(case.images) > 1:
        drawn_on = read_geometry(case.label)
        grids = [grid, *(read_geometry(image, has_channels=True) for image in case.images)]
        place = next((n for n, channel in enumerate(grids) if drawn_on.find_axes(channel) is not None), 0)
        if place:
            return resample(read_label(case.label, grids[place]), grid, "label")
    return read_label(case.label, grid)


def _write_scores(
    scores: Scores,
    names: Sequence[str],
    failures: Failures,
    out: Path,
    *,
    ignored: dict[str, int],
    remarks: dict[str, str],
) -> Metrics:
    """Write the per-case table, failed cases first, and the text reports; return the means.

    Where voxels may be unlabelled, the table and the numbers say how many were left out; where classes may be, the
    numbers say how many cases each class was judged in.
    """
    rows = [_make_row(case, by_class, remarks[case]) for case, by_class in scores.items()]
    columns = ["case", "mean_dice", *(f"{kind}_{name}" for name in names for kind in KINDS), "remark"]
    if ignored:
        rows = [row | {IGNORED: ignored[row["case"]]} for row in rows]
        columns.insert(-1, IGNORED)
    write_table(out / "per_case.csv", [*make_failed_rows(failures.rows, scores), *rows], columns)
    mean = write_dice_report(out / "mean_dice.txt", ((row["case"], row["mean_dice"]) for row in rows))
    metrics: Metrics = {"mean_dice": mean} | ({IGNORED: sum(row[IGNORED] for row in rows)} if ignored else {})
    is_partial = any(overlap.remark == NOT_LABELLED for by_class in scores.values() for overlap in by_class.values())
    files = name_files(names)
    for name in names:
        overlaps = {case: by_class[name] for case, by_class in scores.items()}
        if is_partial:
            metrics[f"cases_{name}"] = sum(overlap.remark != NOT_LABELLED for overlap in overlaps.values())
        dices = ((case, overlap.dice) for case, overlap in overlaps.items())
        write_dice_report(out / f"{files[name]}_dice_report.txt", dices)
        for kind, short in KINDS.items():
            metrics[f"{short}_{name}"] = average_defined(getattr(overlap, kind) for overlap in overlaps.values())
        for remark, short in REMARKS.items():
            metrics[f"{short}_{name}"] = sum(overlap.remark == remark for overlap in overlaps.values())
    return metrics


def _make_row(case: str, by_class: dict[str, Overlap], remark: str) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case, "mean_dice": _average_dice(by_class)}
    for name, overlap in by_class.items():
        row |= {f"{kind}_{name}": value for kind, value in asdict(overlap).items() if kind != "remark"}
    class_remarks = [f"{name}: {overlap.remark}" for name, overlap in by_class.items() if overlap.remark]
    row["remark"] = "; ".join(filter(None, [remark, *class_remarks]))
    return row


def _average_dice(by_class: dict[str, Overlap]) -> float:
    return average_defined(overlap.dice for overlap in by_class.values())


def _compute_intervals(scores: Scores, names: Sequence[str], samples: int) -> dict[str, Interval]:
    """The 95 % intervals of the means over cases."""
    values = {"mean_dice": [_average_dice(by_class) for by_class in scores.values()]}
    for name in names:
        for kind, short in KINDS.items():
            values[f"{short}_{name}"] = [getattr(by_class[name], kind) for by_class in scores.values()]
    intervals = {}
    for metric, case_values in values.items():
        interval = compute_mean_interval([value for value in case_values if not math.isnan(value)], samples)
        if interval is not None:
            intervals[metric] = interval
    return intervals


def _write_best_and_worst(cases: dict[str, InferenceCase], scores: Scores, spec: ModelSpec, out: Path) -> None:
    means = {case: _average_dice(by_class) for case, by_class in scores.items()}
    ranked = sorted((case for case in means if not math.isnan(means[case])), key=lambda case: (-means[case], case))
    extremes = {"best": ranked[0], "worst": ranked[-1]} if ranked else {}
    for rank, case in extremes.items():
        images = read_volumes(cases[case], spec)
        reference = read_reference(cases[case], images[min(spec.reference, len(images) - 1)].geometry)
        if cases[case].ignore is not None:
            reference = Volume(np.where(reference.array == cases[case].ignore, 0, reference.array), reference.geometry)
        mask = read_volume(out / "masks" / f"{case}.nii.gz")
        title = f"{rank}: {case}  Dice {means[case]:.3f}"
        write_overlays(out / "overlays" / f"{rank}_{case}.png", images, mask, spec, label=reference, title=title)
