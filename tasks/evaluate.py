"""Evaluate the exported model on the datalist's unseen cases, in the original images' geometry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks import bundle
from tasks.stage import Stage, main
from voxflow.datalist import Datalist
from voxflow.errors import DataError
from voxflow.files import atomic_directory, write_json
from voxflow.inference import (
    EvaluateOptions,
    evaluate_classification,
    evaluate_segmentation,
    metric_name,
    native_cases,
    open_engine,
)
from voxflow.progress import say
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from voxflow.inference import Evaluation
    from voxflow.tracking import Tracker


def run(stage: Stage) -> int:
    """Evaluate and record; a bad case is reported and the others go on."""
    if bundle.is_bundle(stage):
        return bundle.evaluate(stage)
    options = stage.options(EvaluateOptions)
    datalist = Datalist.read(stage.datalists / "dataset_0.json", stage.resampled)
    listed = [(case.id, case.label) for case in datalist.cases(options.key)]
    if not listed:
        raise DataError("no case to evaluate on", path=datalist.path, where=options.key)
    is_segmentation = stage.task == "segmentation"
    cases = native_cases(listed, stage.volumes, is_mask=is_segmentation)
    engine = open_engine(stage.models / "export", options.engine)
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        with atomic_directory(stage.evaluation / "test") as out:
            if is_segmentation:
                evaluation = evaluate_segmentation(engine, cases, out, options)
            else:
                evaluation = evaluate_classification(engine, cases, out, options)
        _record(stage, evaluation, tracker)
    metrics = evaluation.metrics
    title, key = ("mean Dice", "mean_dice") if is_segmentation else ("mean AUC", "mean_auc")
    score = f"{metrics[key]:.3f}" if key in metrics else "undefined"
    found = f"{title} {score} on {metrics['cases']} unseen cases ({engine.name}){evaluation.failures.summary()}"
    say(f"evaluate {stage.workspace}: {found} → {stage.evaluation / 'test'}")
    return evaluation.failures.exit_code(int(metrics["cases"]))


def _record(stage: Stage, evaluation: Evaluation, tracker: Tracker) -> None:
    write_json(stage.metrics, evaluation.metrics)
    tracker.metrics({f"test/{metric_name(name)}": value for name, value in evaluation.metrics.items()})
    folder = stage.evaluation / "test"
    for path in sorted(folder.iterdir()):
        # Masks stay in DVC: they are large, and the pictures show them.
        if path.name != "masks":
            tracker.artifact(path, "test/overlays" if path.is_dir() else "test")


if __name__ == "__main__":
    sys.exit(main("evaluate", run))
