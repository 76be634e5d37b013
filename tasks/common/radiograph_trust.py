"""Calibrates a classifier with radiographs that were held out: those of the folds, or those of the validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.datalist import Datalist
from voxflow.evaluation import require_findings
from voxflow.inference import Failures, classify_cases, describe_settings, digest_exported_models
from voxflow.progress import say
from voxflow.tables import read_rows
from voxflow.trust import (
    CALIBRATION_FILE,
    LEAST_OF_EACH,
    HeldOutRadiograph,
    RadiographReviewer,
    build_radiograph_calibration,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tasks.common.folds import EnsembleStage
    from tasks.common.stage import Stage
    from voxflow.engines import Engine
    from voxflow.evaluation import EvaluateOptions
    from voxflow.inference import InferenceCase

PROBABILITY = "probability_"
TRAINING = "training"


def calibrate_radiographs(
    stage: Stage,
    engine: Engine,
    options: EvaluateOptions,
    held_out: Sequence[HeldOutRadiograph],
    out: Path,
    *,
    models: Sequence[Path],
) -> RadiographReviewer | None:
    """Write trust.json of a classifier, or of the folds' together.

    Args:
        stage: whose model.
        engine: what runs it.
        options: of the evaluation.
        held_out: the radiographs to calibrate by.
        out: the folder that gets the file.
        models: folders of exported models.

    Returns:
        What calibrates further radiographs; None, and no file, where no finding has enough patients, and where the
        classes exclude each other. A line says why.
    """
    if engine.spec.activation == "softmax":
        say(f"trust {stage.title}: not calibrated, since the classes exclude each other; only findings are")
        return None
    calibration = build_radiograph_calibration(
        held_out,
        engine.spec.class_names,
        models=digest_exported_models(models),
        settings={"flips": describe_settings(options, engine.spec)["flips"]},
        part="validation",
    )
    reviewer = RadiographReviewer(calibration, tuple(range(len(models))))
    say(f"trust {stage.title}: {reviewer.describe()}")
    if not calibration.corrected:
        least = f"{LEAST_OF_EACH} held-out patients with a finding and {LEAST_OF_EACH} without"
        say(f"trust {stage.title}: not calibrated; it takes {least}. voxflow folds hold out more")
        return None
    if reason := reviewer.explain_other_findings(engine.spec.class_names):
        say(f"trust {stage.title}: not calibrated: {reason}")
        return None
    calibration.write(out / CALIBRATION_FILE)
    return reviewer


def judge_held_out(
    stage: Stage, engine: Engine, cases: Sequence[InferenceCase], options: EvaluateOptions
) -> list[HeldOutRadiograph]:
    """Let a workspace's model judge the cases of its validation; those that it can't judge are left out.

    Args:
        stage: whose datalist tells the patients.
        engine: what runs the model.
        cases: of the validation, with their findings.
        options: of the evaluation.
    """
    datalist = Datalist.read(stage.datalist, stage.resampled)
    patients = {case.id: case.patient for part in datalist.parts.values() for case in part}
    learned, failures = _list_learned(datalist), Failures()
    held_out = []
    for result in classify_cases(engine, cases, failures, options):
        case, names = result.case, engine.spec.class_names
        truth = failures.attempt(case, lambda case=case, names=names: require_findings(case, len(names)))  # type: ignore[misc]
        if truth is not None:
            patient, probabilities = patients.get(case.id) or case.id, tuple(result.probabilities.values())
            is_learned = bool({case.id, patient} & learned)
            held_out.append(HeldOutRadiograph(case.id, patient, 0, truth, probabilities, is_learned))
    if failures.rows:
        say(f"trust {stage.title}: {len(failures.cases)} validation cases can't be used: {failures.rows[0]['reason']}")
    return held_out


def read_held_out(stage: EnsembleStage, names: Sequence[str]) -> list[HeldOutRadiograph]:
    """Read what each fold's model said of the radiographs that this fold held out."""
    patients = {row["case"]: row["patient"] for row in read_rows(stage.datalists / "split.csv") or []}
    held_out = []
    for model, number in enumerate(stage.numbers):
        fold = stage.fold(number, "evaluate")
        learned = _list_learned(Datalist.read(fold.datalist, fold.resampled))
        for row in read_rows(fold.evaluation / "held_out" / "per_case.csv") or []:
            if all(row.get(f"{PROBABILITY}{name}") for name in names):
                patient = patients.get(row["case"]) or row["case"]
                held_out.append(
                    HeldOutRadiograph(
                        row["case"],
                        patient,
                        model,
                        tuple(int(row[name]) for name in names),
                        tuple(float(row[f"{PROBABILITY}{name}"]) for name in names),
                        bool({row["case"], patient} & learned),
                    )
                )
    return held_out


def _list_learned(datalist: Datalist) -> set[str]:
    """Names of the cases and the patients that a model's weights were fitted to."""
    return {name for case in datalist.parts.get(TRAINING, ()) for name in (case.id, case.patient) if name}
