"""Train the workspace's model: the MMAR's config and the datalist in; model.pt, curves and events out."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from tasks import bundle
from tasks.stage import Stage, main
from voxflow.config import load_workflow
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK
from voxflow.files import write_json
from voxflow.progress import say
from voxflow.tracking import NullTracker, begin_run, write_run_file
from voxflow.training import TrainingResult, TrainOptions, is_first_process, read_facts, train, unfinished_run

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.config import Workflow


def run(stage: Stage) -> int:
    """Check the configuration, then train; see ``voxflow.training.train``."""
    if bundle.is_bundle(stage):
        return bundle.train(stage)
    options = _options(stage)
    listed = stage.datalists / "dataset_0.json"
    workflow = _workflow(stage, options, listed)
    datalist = Datalist.read(listed, stage.resampled)
    keys = {section.image_pipeline.args["data_list_key"] for section in (workflow.train, workflow.validate)}
    datalist.check_files(sorted(keys & datalist.parts.keys()))
    facts = read_facts(stage.resampled / "labels.json", stage.block.get("resample") or {}, datalist.metadata)
    out, curves = stage.models / "train", stage.models / "curves.csv"
    if not is_first_process():
        result = train(workflow, datalist, options, out, facts=facts, tracker=NullTracker(), curves=curves)
        return EXIT_INTERRUPTED if result.ending == "interrupted" else EXIT_OK
    run_id = unfinished_run(workflow, datalist, options, out, facts=facts)
    with begin_run(stage.workspace, params=stage.block, datalist=listed, run_id=run_id) as tracker:
        write_run_file(out / "run.json", tracker, stage.workspace)
        tracker.artifact(stage.mmar / options.config, "config")
        result = train(workflow, datalist, options, out, facts=facts, tracker=tracker, curves=curves)
        if curves.is_file():
            tracker.artifact(curves)
        numbers = _numbers(result)
        tracker.metrics({f"train/{name}": value for name, value in numbers.items()})
        if result.ending == "interrupted":
            tracker.interrupted()
    write_json(stage.metrics, numbers)
    _say(stage, result, out)
    return EXIT_INTERRUPTED if result.ending == "interrupted" else EXIT_OK


def _options(stage: Stage) -> TrainOptions:
    """The stage's options; start weights are looked for in the MMAR first, then from the repository's root."""
    options = stage.options(TrainOptions)
    if options.checkpoint is None or not (stage.mmar / options.checkpoint).is_file():
        return options
    return options.model_copy(update={"checkpoint": stage.mmar / options.checkpoint})


def _workflow(stage: Stage, options: TrainOptions, listed: Path) -> Workflow:
    environment = stage.mmar / options.environment
    places = {"DATA_ROOT": stage.resampled.as_posix(), "DATASET_JSON": listed.as_posix(), "PROCESSING_TASK": stage.task}
    return load_workflow(
        stage.mmar / options.config,
        environment=environment if environment.is_file() else None,
        overrides={**places, **options.set},
    )


def _numbers(result: TrainingResult) -> dict[str, float]:
    """The result as flat finite numbers, as JSON and ``dvc metrics`` want them."""
    counts = {"epochs": result.epochs, "steps": result.steps, "best_epoch": result.best_epoch}
    values = {"seconds": round(result.seconds, 1), "train_loss": result.train_loss, **result.metrics}
    return counts | {name: value for name, value in values.items() if math.isfinite(value)}


def _say(stage: Stage, result: TrainingResult, out: Path) -> None:
    ended = "" if result.ending == "finished" else f" ({result.ending})"
    best = (
        f", best {result.key_metric} {result.best_metric:.4f} in epoch {result.best_epoch}" if result.key_metric else ""
    )
    minutes = f"{result.seconds / 60:.1f} min in {result.precision}"
    say(f"train {stage.workspace}: {result.epochs} epochs{ended}, {minutes}{best} → {out}")


if __name__ == "__main__":
    sys.exit(main("train", run))
