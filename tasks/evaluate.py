"""Evaluate the exported model on the datalist's unseen cases, in the original images' geometry.

One fold's model is judged on the cases that this fold held out (``--fold N``); with ``--ensemble`` the models of all
folds are judged together on the unseen cases, and compared under one MLflow run.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tasks.common import bundle_infer
from tasks.common.adopted import is_adopted
from tasks.common.bundle import is_bundle
from tasks.common.cross_validation import pool_radiographs, read_scores, summarise, write_comparison
from tasks.common.folds import EnsembleStage, main
from tasks.common.label_values import require_model_values
from tasks.common.radiograph_trust import calibrate_radiographs, judge_held_out, read_held_out
from tasks.common.scores import is_without_test, leave_unjudged, write_plots, write_scores
from tasks.common.trust import require_calibratable, write_calibration
from voxflow.datalist import Datalist
from voxflow.engines import open_engine
from voxflow.errors import DataError
from voxflow.evaluation import (
    STEPS,
    EvaluateOptions,
    choose_cleaning,
    describe_trials,
    evaluate_classification,
    evaluate_segmentation,
    read_reference,
    try_cleaning,
)
from voxflow.files import atomic_directory, write_json
from voxflow.inference import find_native_cases
from voxflow.prediction import class_values, open_ensemble
from voxflow.progress import say
from voxflow.tables import write_table
from voxflow.tracking import begin_run, continue_run, find_common_parent, read_run_file, write_run_file
from voxflow.trust import CALIBRATION_FILE, leave_uncalibrated
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tasks.common.folds import FoldStage
    from tasks.common.stage import Stage
    from voxflow.engines import Engine
    from voxflow.evaluation import EvaluationResult
    from voxflow.inference import InferenceCase
    from voxflow.tracking import Tracker
    from voxflow.volumes import Volume

MASKS_UP_TO = 100_000_000  # bytes
HELD_OUT = "validation"


def run(stage: Stage) -> int:
    """Judge the workspace's model on the datalist's unseen cases, and record the scores.

    A bad case is reported and the others go on. Where no case was set aside for the test, nothing is judged.

    Returns:
        3 where some cases failed, 1 where all did.
    """
    if is_bundle(stage):
        return bundle_infer.evaluate(stage)
    options = _read_options(stage)
    if is_without_test(stage, options.key) and (stage.task == "classification" or not options.calibrate):
        return leave_unjudged(stage)
    code = _evaluate_trained(stage, list_labelled_cases(stage, options.key), options, part="test")
    write_scores(stage, json.loads(stage.metrics.read_text(encoding="utf-8")))
    write_plots(stage, stage.evaluation / "test")
    return code


def run_fold(stage: FoldStage) -> int:
    """Judge one fold's model on the cases that this fold held out of its training.

    Returns:
        As :func:`run`.
    """
    if is_bundle(stage):
        return bundle_infer.evaluate(stage, HELD_OUT, "held_out")
    # These cases have chosen the best epoch, and nobody infers with one fold's model.
    options = stage.options(EvaluateOptions).model_copy(update={"calibrate": False})
    return _evaluate_trained(stage, list_labelled_cases(stage, HELD_OUT), options, part="held_out")


def run_ensemble(stage: EnsembleStage) -> int:
    """Judge the folds' models together on the unseen cases, compare the folds, and record both below one MLflow run.

    Returns:
        As :func:`run`.
    """
    options = _read_options(stage)
    cases = list_labelled_cases(stage, options.key)
    scores = read_scores(stage)
    engine = open_ensemble(stage.engine_folders, options.engine, options.device)
    runs = [read_run_file(stage.fold(number, "train").models / "train" / "run.json") for number in stage.numbers]
    with begin_run(
        stage.workspace,
        params=stage.block,
        datalist=stage.datalist,
        run_id=find_common_parent(runs),
        part=stage.run_name or "",
    ) as tracker:
        write_run_file(stage.evaluation / "run.json", tracker, stage.workspace)
        tracker.adopt(runs)
        code = evaluate(stage, engine, cases, options, tracker=tracker, models=stage.engine_folders)
        unseen = json.loads(stage.metrics.read_text(encoding="utf-8"))
        pooled = {} if stage.task == "segmentation" else pool_radiographs(stage, options.bootstrap)
        summary = summarise(scores) | {f"folds/pooled_{name}": value for name, value in pooled.items()}
        table = write_comparison(stage, scores, summary, unseen, pooled)
        write_json(stage.metrics, unseen | summary)
        write_scores(stage, unseen, prefix="ensemble_")
        tracker.log_metrics(summary)
        tracker.log_artifact(table)
        if stage.task == "segmentation" and options.clean.does_nothing:
            tracker.log_artifact(_compare_cleaning(stage, engine))
    key = "mean_dice" if stage.task == "segmentation" else "mean_auc"
    if f"folds/{key}" in summary:
        spread = f"{summary[f'folds/{key}']:.3f} ± {summary[f'folds/{key}_std']:.3f}"
        say(f"cross-validation {stage.workspace}: {key} {spread} over {len(scores)} folds' held-out cases → {table}")
    if "mean_auc_low" in pooled:
        interval = f"95 % {pooled['mean_auc_low']:.3f} to {pooled['mean_auc_high']:.3f} by patient"
        say(f"cross-validation {stage.workspace}: AUC {pooled['mean_auc']:.3f} of all held-out cases, {interval}")
    return code


def _compare_cleaning(stage: EnsembleStage, engine: Engine) -> Path:
    """Try ways of cleaning on what the folds' models made of their held-out cases; write the table, say the choice."""
    trials = try_cleaning(_read_held_out_masks(stage), class_values(engine.spec))
    table = stage.evaluation / "test" / "cleaning.csv"
    columns = ["name", "step", "cases", "dice", "cleaned_dice", "standard_error", "is_chosen"]
    write_table(table, describe_trials(trials), columns)
    chosen = choose_cleaning(trials)
    if chosen.does_nothing:
        say(f"cleaning {stage.workspace}: no way of cleaning is better than none beyond the noise → {table}")
    else:
        steps = ", ".join(f"{step}: [{', '.join(getattr(chosen, step))}]" for step in STEPS if getattr(chosen, step))
        say(f"cleaning {stage.workspace}: better beyond the noise: clean: {{{steps}}} → {table}")
    return table


def _read_held_out_masks(stage: EnsembleStage) -> Iterator[tuple[Volume, Volume, int | None]]:
    """What each fold's model made of the cases that it held out, with their labels; failed cases are left out."""
    for number in stage.numbers:
        fold = stage.fold(number, "evaluate")
        for case in list_labelled_cases(fold, HELD_OUT):
            path = fold.evaluation / "held_out" / "masks" / f"{case.id}.nii.gz"
            if path.is_file() and case.labelled is None:
                mask = read_volume(path)
                yield mask, read_reference(case, mask.geometry), case.ignore


def _read_options(stage: Stage) -> EvaluateOptions:
    options = stage.options(EvaluateOptions)
    if options.calibrate:
        require_calibratable(stage, options)
    return options


def _evaluate_trained(stage: Stage, cases: Sequence[InferenceCase], options: EvaluateOptions, *, part: str) -> int:
    engine = open_engine(stage.models / "export", options.engine, options.device)
    if is_adopted(stage):
        require_model_values(stage, engine.spec)
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        models = [stage.models / "export"]
        return evaluate(stage, engine, cases, options, tracker=tracker, part=part, models=models)


def list_labelled_cases(stage: Stage, key: str) -> list[InferenceCase]:
    """The datalist's cases under a key, as they came, with their labels.

    Raises:
        DataError: there is none.
    """
    datalist = Datalist.read(stage.datalist, stage.resampled)
    labels = [(case.id, case.label) for case in datalist.cases(key)]
    if not labels:
        raise DataError("no case to evaluate on", path=datalist.path, where=key)
    return find_native_cases(labels, stage.volumes, is_mask=stage.task == "segmentation")


def evaluate(
    stage: Stage,
    engine: Engine,
    cases: Sequence[InferenceCase],
    options: EvaluateOptions,
    *,
    tracker: Tracker,
    part: str = "test",
    models: Sequence[Path] = (),
) -> int:
    """Evaluate a model on cases, write what was found to the stage's folder ``part``, and record it.

    Args:
        stage: whose folder.
        engine: what runs the model.
        cases: with labels.
        options: of the evaluation.
        tracker: of the training's run.
        part: name of the folder.
        models: what the engine was opened from, for a calibration.

    Returns:
        The exit code.
    """
    is_segmentation = stage.task == "segmentation"
    with atomic_directory(stage.evaluation / part) as out:
        if is_segmentation:
            evaluation = evaluate_segmentation(engine, cases, out, options)
            if options.calibrate:
                write_calibration(stage, engine, options, evaluation, out, models=models)
        else:
            evaluation = _evaluate_radiographs(stage, engine, cases, out, options, models=models)
        if part == "test" and not (out / CALIBRATION_FILE).is_file():
            leave_uncalibrated(out)
    _record(stage, evaluation, tracker, part)
    metrics = evaluation.metrics
    title, key = ("mean Dice", "mean_dice") if is_segmentation else ("mean AUC", "mean_auc")
    score = f"{metrics[key]:.3f}" if key in metrics else "undefined"
    summary = f"{title} {score} on {metrics['cases']} unseen cases ({engine.name}){evaluation.failures.summary()}"
    say(f"evaluate {stage.title}: {summary} → {stage.evaluation / part}")
    return evaluation.failures.exit_code(int(metrics["cases"]))


def _evaluate_radiographs(
    stage: Stage,
    engine: Engine,
    cases: Sequence[InferenceCase],
    out: Path,
    options: EvaluateOptions,
    *,
    models: Sequence[Path],
) -> EvaluationResult:
    """Evaluate a classifier, and first calibrate it by held-out radiographs where that is asked for."""
    if not options.calibrate:
        return evaluate_classification(engine, cases, out, options)
    if isinstance(stage, EnsembleStage):
        held_out = read_held_out(stage, engine.spec.class_names)
    else:
        is_held_out = HELD_OUT in Datalist.read(stage.datalist, stage.resampled).parts
        held_out_cases = list_labelled_cases(stage, HELD_OUT) if is_held_out else []
        held_out = judge_held_out(stage, engine, held_out_cases, options)
    reviewer = calibrate_radiographs(stage, engine, options, held_out, out, models=models)
    return evaluate_classification(engine, cases, out, options, reviewer=reviewer, held_out=held_out)


def _record(stage: Stage, evaluation: EvaluationResult, tracker: Tracker, part: str) -> None:
    write_json(stage.metrics, evaluation.metrics)
    tracker.log_metrics({f"{part}/{name}": value for name, value in evaluation.metrics.items()})
    folder = stage.evaluation / part
    for path in sorted(folder.iterdir()):
        # Many large masks stay in DVC; the others let two runs be compared by picture.
        if path.name != "masks" or _measure_size(path) <= MASKS_UP_TO:
            tracker.log_artifact(path, f"{part}/{path.name}" if path.is_dir() else part)
    tracker.log_table(folder / "per_case.csv", f"{part}/per_case.json")


def _measure_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main("evaluate", run, run_fold=run_fold, run_ensemble=run_ensemble))
