"""Evaluate the folds' models together on the unseen cases, and compare the folds under one MLflow run."""

from __future__ import annotations

import json
import sys
from statistics import mean, stdev
from typing import TYPE_CHECKING

from tasks.evaluate import evaluate, labelled_cases
from tasks.fold import ENSEMBLES, load_ensemble
from tasks.stage import program
from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.inference import EvaluateOptions, metric_name, open_ensemble
from voxflow.progress import say
from voxflow.tables import write_table
from voxflow.tracking import begin_run, common_parent, read_run_file, write_run_file

if TYPE_CHECKING:
    from tasks.fold import EnsembleStage

Numbers = dict[str, float]
COUNTS = {"cases", "failed_cases"}


def run(stage: EnsembleStage) -> int:
    """Evaluate, compare and record; a bad case is reported and the others go on."""
    options = stage.options(EvaluateOptions)
    cases = labelled_cases(stage, options.key)
    scores = {number: _scores(stage, number) for number in stage.numbers}
    engine = open_ensemble(stage.engine_folders, options.engine)
    runs = [read_run_file(stage.fold(number, "train").models / "train" / "run.json") for number in stage.numbers]
    parent = common_parent(runs)
    with begin_run(
        stage.workspace, params=stage.block, datalist=stage.datalist, run_id=parent, name=stage.run_name
    ) as tracker:
        write_run_file(stage.evaluation / "run.json", tracker, stage.workspace)
        tracker.adopt(runs)
        code = evaluate(stage, engine, cases, options, tracker=tracker)
        found = json.loads(stage.metrics.read_text(encoding="utf-8"))
        summary = _summary(scores)
        table = stage.evaluation / "cross_validation.csv"
        _write_comparison(stage, scores, summary, found)
        write_json(stage.metrics, found | summary)
        tracker.metrics({metric_name(name): value for name, value in summary.items()})
        tracker.artifact(table)
    key = "mean_dice" if stage.task == "segmentation" else "mean_auc"
    if f"folds/{key}" in summary:
        spread = f"{summary[f'folds/{key}']:.3f} ± {summary[f'folds/{key}_std']:.3f}"
        say(f"cross-validation {stage.workspace}: {key} {spread} over {len(scores)} folds' held-out cases → {table}")
    return code


def _scores(stage: EnsembleStage, number: int) -> Numbers:
    """What a fold's model reached on the cases that it never saw."""
    path = stage.fold(number, "evaluate").metrics
    try:
        return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError as error:
        raise DataError("file not found; the stage evaluate_fold writes it", path=path) from error


def _summary(scores: dict[int, Numbers]) -> Numbers:
    """Mean and standard deviation, over the folds, of every score that all of them have."""
    summary: Numbers = {}
    for name in _common(scores):
        values = [each[name] for each in scores.values()]
        summary[f"folds/{name}"] = mean(values)
        summary[f"folds/{name}_std"] = stdev(values) if len(values) > 1 else 0.0
    return summary


def _common(scores: dict[int, Numbers]) -> list[str]:
    first, *others = scores.values()
    return [name for name in first if name not in COUNTS and all(name in each for each in others)]


def _write_comparison(stage: EnsembleStage, scores: dict[int, Numbers], summary: Numbers, found: Numbers) -> None:
    """One row a fold, their mean and spread, and the ensemble on the cases that no fold saw."""
    names = _common(scores)
    rows = [{"model": f"fold {number}", "on": "held-out cases", **each} for number, each in scores.items()]
    rows.append({"model": "mean", "on": "held-out cases"} | {name: summary[f"folds/{name}"] for name in names})
    rows.append({"model": "std", "on": "held-out cases"} | {name: summary[f"folds/{name}_std"] for name in names})
    rows.append({"model": "ensemble", "on": "unseen cases", **found})
    write_table(stage.evaluation / "cross_validation.csv", rows, ["model", "on", "cases", *names])


if __name__ == "__main__":
    sys.exit(program("evaluate_ensemble", run, lambda key: load_ensemble(key, "evaluate"), key=ENSEMBLES))
