"""Train the workspace's model: reads the MMAR's config and the datalist, writes model.pt, curves and events."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tasks.common import adopted, bundle_train
from tasks.common.adopted import is_adopted
from tasks.common.bundle import is_bundle
from tasks.common.folds import FoldStage, main
from voxflow.datalist import Datalist
from voxflow.errors import EXIT_INTERRUPTED, EXIT_OK
from voxflow.files import write_json
from voxflow.lint import check_workspace
from voxflow.planning import Target, plan_training
from voxflow.progress import say
from voxflow.tracking import NullTracker, begin_run, write_run_file
from voxflow.training import (
    RECORD,
    FirstStage,
    TrainOptions,
    attach_masks,
    describe_training,
    find_unfinished_run,
    is_first_process,
    read_facts,
    read_previous_record,
    train,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.common.stage import Stage
    from voxflow.config import Workflow
    from voxflow.planning import Proposal, RadiographProposal


def run(stage: Stage) -> int:
    """Check the workspace as ``voxflow check`` does, then train; see ``voxflow.training.train``.

    A training that was cut off goes on from its last checkpoint, in the same MLflow run.

    Returns:
        130 when it was interrupted.
    """
    if is_bundle(stage):
        return bundle_train.train(stage)
    if is_adopted(stage):
        return adopted.train(stage)
    options = _read_options(stage)
    decided, proposal = plan_training(stage.block.get("train") or {}, stage.resampled, stage.mmar / options.config)
    workflow = _check(_build_target(stage, options, stage.datalist, decided))
    datalist, first_stage = _show_previous(stage, options, Datalist.read(stage.datalist, stage.resampled))
    facts = read_facts(stage.resampled / "labels.json", _read_resampling(stage), datalist.metadata)
    out, curves = stage.models / "train", stage.models / "curves.csv"
    if not is_first_process():
        result = train(
            workflow, datalist, options, out, facts=facts, tracker=NullTracker(), curves=curves, first_stage=first_stage
        )
        return EXIT_INTERRUPTED if result.ending == "interrupted" else EXIT_OK
    run_id = find_unfinished_run(workflow, datalist, options, out, facts=facts)
    with begin_run(
        stage.workspace,
        params=stage.block,
        facts=describe_training(workflow),
        datalist=stage.datalist,
        run_id=run_id,
        part=stage.run_name or "",
    ) as tracker:
        write_run_file(out / "run.json", tracker, stage.workspace)
        _write_proposal(out / "plan.json", proposal, decided)
        tracker.log_artifact(stage.mmar / options.config, "config")
        result = train(
            workflow, datalist, options, out, facts=facts, tracker=tracker, curves=curves, first_stage=first_stage
        )
        if curves.is_file():
            tracker.log_artifact(curves)
        tracker.log_metrics(result.to_tracked_metrics())
        if result.ending == "interrupted":
            tracker.mark_interrupted()
    write_json(stage.models / "train.json", result.to_metrics())
    say(f"train {stage.title}: {result.summary()} → {out}")
    return EXIT_INTERRUPTED if result.ending == "interrupted" else EXIT_OK


def _show_previous(stage: Stage, options: TrainOptions, datalist: Datalist) -> tuple[Datalist, FirstStage | None]:
    """In the second of two stages, the cases with the first one's masks, and its models for the model file.

    A fold's model file holds the first stage's model of the same fold alone: the others have seen what it holds out.
    """
    if options.previous is None:
        return datalist, None
    record = read_previous_record(stage.mmar / "config" / RECORD, stage.workspace, options.previous)
    fold = stage.fold if isinstance(stage, FoldStage) else None
    datalist = attach_masks(datalist, record, stage.previous, fold=fold)
    numbers = sorted(record.models) if fold is None else [fold]
    folds = [FoldStage(options.previous, stage.name, {}, number) for number in numbers]
    files = [place.models / "train" / "model.pt" for place in folds]
    return datalist, FirstStage.read(files, record.values, [record.models[number] for number in numbers])


def _read_options(stage: Stage) -> TrainOptions:
    """The stage's options; start weights are looked for in the MMAR first, then from the repository's root."""
    options = stage.options(TrainOptions)
    if options.checkpoint is None or not (stage.mmar / options.checkpoint).is_file():
        return options
    return options.model_copy(update={"checkpoint": stage.mmar / options.checkpoint})


def _read_resampling(stage: Stage) -> dict[str, Any]:
    """The stage's own parameters; where they leave the spacing to it, what the stage resample wrote down."""
    parameters: dict[str, Any] = stage.block.get("resample") or {}
    if parameters.get("spacing_mm") == "auto":
        parameters = json.loads((stage.resampled / "resample.json").read_text(encoding="utf-8"))
    return parameters


def _write_proposal(path: Path, proposal: Proposal | RadiographProposal | None, decided: dict[str, Any]) -> None:
    """Keep beside the model what it was planned from."""
    path.unlink(missing_ok=True)
    if proposal is not None:
        write_json(path, {**proposal.to_json(), "set": decided})


def _build_target(stage: Stage, options: TrainOptions, datalist_file: Path, decided: dict[str, Any]) -> Target:
    """What is checked and trained; config_validation.json is for later stages, which read it themselves."""
    environment = stage.mmar / options.environment
    places = {
        "DATA_ROOT": stage.resampled.as_posix(),
        "DATASET_JSON": datalist_file.as_posix(),
        "PROCESSING_TASK": stage.task,
    }
    return Target(
        name=stage.workspace,
        mmar=stage.mmar,
        config=stage.mmar / options.config,
        evaluation=None,
        environment=environment if environment.is_file() else None,
        overrides={**places, **decided, **options.set},
        planned=frozenset(decided),
        labels=stage.resampled / "labels.json",
        allow_repeated_cases=options.allow_repeated_cases,
        is_from_cwd=True,
    )


def _check(target: Target) -> Workflow:
    """Say every warning and raise every error before anything heavy is imported; return what is to be trained."""
    report = check_workspace(target)
    if is_first_process():
        for finding in report.findings:
            if finding.severity == "warning":
                say(f"train {target.name}: warning: {finding.line}")
    return report.require_workflow()


if __name__ == "__main__":
    sys.exit(main("train", run, run_fold=run))
