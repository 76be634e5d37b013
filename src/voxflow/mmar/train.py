"""Trains an MMAR in its own folder: reads its configuration and cases, writes its models folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxflow.errors import ConfigError, DataError
from voxflow.files import write_json
from voxflow.lint import check_workspace
from voxflow.locks import hold_outputs
from voxflow.mmar.artefacts import find_model
from voxflow.mmar.data import DATA_FILE, collect_facts, describe_data, read_training_data
from voxflow.mmar.record import open_new_record
from voxflow.planning import Target
from voxflow.progress import say
from voxflow.training import (
    TrainOptions,
    describe_training,
    find_unfinished_run,
    is_first_process,
    read_checkpoint,
    train,
)

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.config import Workflow
    from voxflow.datalist import Datalist
    from voxflow.mmar.folder import Mmar
    from voxflow.training import TrainingResult

STATS_FILE = "train_stats.json"
# What --set may say of how the training is run, beside what it says of the configuration.
REPEATS = "allow_repeated_cases"
RUN_KEYS = TrainOptions.model_fields.keys() - {"config", "environment", "set", "checkpoint"}


@dataclass(frozen=True)
class MmarTraining:
    """What a training left.

    Attributes:
        result: how it went.
        models: the folder of model.pt and model_final.pt.
        repeats: cases of validation that training learnt from.
    """

    result: TrainingResult
    models: Path
    repeats: int = 0

    def summary(self) -> str:
        """One line for a person."""
        repeats = f"; {self.repeats} case(s) of validation are in training, too" if self.repeats else ""
        return f"{self.result.summary()}{repeats} → {self.models}"


def train_mmar(mmar: Mmar, *, write_stats: bool = False, allow_repeated_cases: bool = False) -> MmarTraining:
    """Train what the MMAR's configuration says on what its pipelines name.

    Args:
        mmar: opened on a training configuration. ``MMAR_CKPT`` names a checkpoint to start from.
        write_stats: write train_stats.json beside the models.
        allow_repeated_cases: a case in two parts of the datalist is a warning, where no file and no ``--set`` says.

    Raises:
        ConfigError: the configuration or a value of ``--set`` is wrong.
        DataError: cases are missing or can't be used.
        TrainingError: the loss is not a number.
    """
    adopt_mpi_ranks()
    _read_options(mmar)
    overrides = {key: value for key, value in mmar.overrides.items() if key not in RUN_KEYS - {REPEATS}}
    workflow = _check(mmar, overrides, allow_repeated_cases=allow_repeated_cases)
    options = _read_options(mmar, _find_start_weights(mmar, workflow))
    options = _apply_configuration(options, workflow)
    workflow = _subtract_past_epochs(options, workflow)
    workflow, datalist = read_training_data(mmar, workflow)
    with hold_outputs(mmar.models, "train", say):
        result, numbers = _train_and_record(mmar, workflow, datalist, options)
        if is_first_process():
            _warn_of_no_score(mmar, workflow, datalist, result)
            write_json(mmar.models / DATA_FILE, dict(describe_data(mmar, workflow)))
            if write_stats:
                ends = {"ending": result.ending, "key_metric": result.key_metric}
                write_json(mmar.models / STATS_FILE, ends | numbers)
    return MmarTraining(result, mmar.models, int(numbers.get("repeated_cases", 0)))


def _train_and_record(
    mmar: Mmar, workflow: Workflow, datalist: Datalist, options: TrainOptions
) -> tuple[TrainingResult, dict[str, float]]:
    facts = collect_facts(workflow, datalist)
    unfinished = find_unfinished_run(workflow, datalist, options, mmar.models, facts=facts)
    with open_new_record(mmar, datalist.path, describe_training(workflow), unfinished) as tracker:
        result = train(workflow, datalist, options, mmar.models, facts=facts, tracker=tracker)
        if result.ending == "interrupted":
            tracker.mark_interrupted()
        numbers = result.to_metrics() | count_repeats(datalist, workflow)
        repeats = {f"train/{name}": value for name, value in count_repeats(datalist, workflow).items()}
        tracker.log_metrics(result.to_tracked_metrics() | repeats)
        tracker.log_artifact(mmar.models / "model.pt", "models")
    return result, numbers


def adopt_mpi_ranks() -> None:
    """Take over the ranks of Open MPI's mpirun, so that scripts which start with it train as under torchrun."""
    size = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if size == "1" or "RANK" in os.environ:
        return
    # All processes of one job must meet at one port that no other job on this machine uses.
    port = 20000 + os.getppid() % 20000
    for name, value in {
        "RANK": os.environ["OMPI_COMM_WORLD_RANK"],
        "WORLD_SIZE": size,
        "LOCAL_RANK": os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ["OMPI_COMM_WORLD_RANK"]),
        "LOCAL_WORLD_SIZE": os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": f"mpirun-{os.getppid()}",
    }.items():
        os.environ.setdefault(name, value)


def _warn_of_no_score(mmar: Mmar, workflow: Workflow, datalist: Datalist, result: TrainingResult) -> None:
    """Say that validation has run and told nothing, so that nobody takes the model for the best of several."""
    key = str(workflow.validate.image_pipeline.args["data_list_key"])
    if (
        result.key_metric
        or result.ending == "interrupted"
        or not (workflow.validate.metrics and datalist.parts.get(key))
    ):
        return
    reason = "no class is in the validation's cases, or in the crop of them that is judged"
    say(f"train {mmar.name}: warning: no metric of validation is defined: {reason}; model.pt is not chosen by one")


def count_repeats(datalist: Datalist, workflow: Workflow) -> dict[str, float]:
    """Count the cases of validation that training learns from, for the reports of numbers; {} where there are none."""
    keys = [section.image_pipeline.args["data_list_key"] for section in (workflow.validate, workflow.train)]
    judged, learnt = (datalist.parts.get(str(key), ()) for key in keys)
    images = {case.image for case in learnt}
    count = sum(case.image in images for case in judged)
    return {"repeated_cases": count} if count else {}


def _check(mmar: Mmar, overrides: dict[str, Any], *, allow_repeated_cases: bool) -> Workflow:
    """Check configuration and data as ``voxflow check`` does: every fault at once, before anything heavy is done."""
    files = (mmar.name, mmar.root, mmar.config, None, mmar.environment)
    report = check_workspace(Target(*files, overrides=overrides, allow_repeated_cases=allow_repeated_cases))
    if is_first_process():
        for finding in report.findings:
            if finding.severity == "warning":
                say(f"train {mmar.name}: warning: {finding.line}")
    return report.require_workflow()


def _find_start_weights(mmar: Mmar, workflow: Workflow) -> Path | None:
    """The checkpoint to begin from: what an enabled CheckpointLoader of Clara 4 names, elsewhere MMAR_CKPT."""
    stated = mmar.variables.get("MMAR_CKPT") or ""
    is_loaded = not mmar.variables.get("dont_load_ckpt_model")
    start = workflow.start_weights if workflow.dialect == "clara4" else stated if is_loaded else ""
    if start:
        return find_model(mmar.input_path(str(start)))
    if mmar.settings.get("MMAR_CKPT") and is_first_process():
        reason = "no CheckpointLoader of train.handlers is enabled" if is_loaded else "dont_load_ckpt_model is true"
        say(f"train {mmar.name}: MMAR_CKPT is not loaded: {reason}; the weights are fresh")
    return None


def _read_options(mmar: Mmar, checkpoint: Path | None = None) -> TrainOptions:
    values: dict[str, Any] = {key: value for key, value in mmar.settings.items() if key in RUN_KEYS}
    values["checkpoint"] = checkpoint
    if mmar.variables.get("use_gpu") is False:
        values.setdefault("accelerator", "cpu")
    try:
        return TrainOptions.model_validate(values)
    except ValidationError as error:
        faults = [f"--set {fault['loc'][0]}: {fault['msg']}, received {fault['input']!r}" for fault in error.errors()]
        raise ConfigError(f"{len(faults)} wrong value(s)", path=mmar.config, findings=faults) from error


def _apply_configuration(options: TrainOptions, workflow: Workflow) -> TrainOptions:
    """How often the state of the training is kept, and whether a killed one goes on, where TLT 2 says so."""
    changes: dict[str, Any] = {}
    every = workflow.globals.record_step
    if every is not None and every != "best_only" and options.state_epochs is None:
        changes["state_epochs"] = 1 if every == "every_epoch" else every
    if workflow.dialect == "tlt2" and "resume" not in options.model_fields_set:
        changes["resume"] = workflow.globals.continue_from_checkpoint_epoch
    return options.model_copy(update=changes)


def _subtract_past_epochs(options: TrainOptions, workflow: Workflow) -> Workflow:
    """With ``continue_from_checkpoint_epoch``, the epochs that a checkpoint has behind it count."""
    values = workflow.globals
    if not values.continue_from_checkpoint_epoch or options.checkpoint is None:
        return workflow
    try:
        past = int(read_checkpoint(options.checkpoint)["epoch"])
    except DataError:
        return workflow  # weights alone: they have no epochs
    remaining = values.epochs - past
    if remaining < 1:
        message = f"{values.epochs}, but {options.checkpoint} was trained for {past} already; ask for more"
        raise ConfigError(message, path=workflow.path, where="epochs")
    if is_first_process():
        say(f"continue_from_checkpoint_epoch: {past} of {values.epochs} epochs are done, {remaining} follow")
    return replace(workflow, globals=values.model_copy(update={"epochs": remaining}))
