"""Runs one training from its configuration to its result: data, device, start or continuation, the loop."""

from __future__ import annotations

import contextlib
import functools
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError, DataError
from voxflow.progress import say
from voxflow.training.cache import CaseCache
from voxflow.training.data import Batches
from voxflow.training.device import count_threads, seed_everything, share_cores, start_device
from voxflow.training.device_batches import place_batches
from voxflow.training.digests import digest_training
from voxflow.training.distributed import World
from voxflow.training.interruption import Interruption
from voxflow.training.loop import BEST, FINAL, TrainingLoop
from voxflow.training.plan import TrainingPlan
from voxflow.training.recorder import Recorder
from voxflow.training.state import STATE, find_matching_state
from voxflow.training.store import CachedStore
from voxflow.training.unlabelled import find_unlabelled
from voxflow.training.weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    import torch

    from voxflow.config import Workflow
    from voxflow.datalist import Case, Datalist
    from voxflow.tracking import Tracker
    from voxflow.training.first_stage import FirstStage
    from voxflow.training.options import DataFacts, TrainOptions
    from voxflow.training.result import TrainingResult

CURVES, EVENTS = "curves.csv", "events"
CASES_TO_CHOOSE = 5  # for validation: fewer choose a state by chance


def train(
    workflow: Workflow,
    datalist: Datalist,
    options: TrainOptions,
    out: Path,
    *,
    facts: DataFacts,
    tracker: Tracker,
    curves: Path | None = None,
    first_stage: FirstStage | None = None,
) -> TrainingResult:
    """Train a network and keep its best and its final state.

    A run that was killed or interrupted goes on where its last state.pt stands, if its configuration, decisive options,
    data and start weights have the same digests.

    Args:
        workflow: the checked configuration.
        datalist: cases under the keys that the workflow's pipelines name.
        options: seed, precision, threads, time budget, start weights.
        out: folder for model.pt (best key metric), model_final.pt, events/ and, until the run is complete, state.pt;
            an older run's are removed.
        facts: class names and grid of the data, for the model file.
        tracker: records the metrics of each validation.
        curves: the CSV of metrics by epoch; ``out``/curves.csv when left out.
        first_stage: in the second of two stages, the models whose mask the network is shown.

    Raises:
        ConfigError: the workflow does not fit the data, or another process has other data.
        DataError: cases are missing or can't be used.
        TrainingError: the loss is not a number; the best checkpoint so far is kept.
    """
    share_cores()
    plan, training, validation = plan_training_data(workflow, datalist, facts)
    _require_shown(plan, first_stage)
    fabric, precision = start_device(plan, options, multi_gpu=workflow.globals.multi_gpu)
    world = World.open(fabric, options.peer_timeout_minutes)
    with world.watch_partners(), contextlib.ExitStack() as stack:
        identity = digest_training(workflow, [*training, *validation], options, facts)
        world.require_same(identity)
        state, start = _choose_start(out, identity, options, world)
        seed = seed_everything(options.seed, workflow.globals.determinism, deterministic=options.deterministic)
        batches, validation_store = prepare_data(plan, (training, validation), options, world, seed=seed)
        batches = place_batches(batches, options, fabric.device, count_threads(options))
        interruption, recorder = stack.enter_context(Interruption()), None
        if world.is_first:
            rows = state["rows"] if state else None
            recorder = Recorder(out / EVENTS, curves or out / CURVES, tracker, rows)
        loop = TrainingLoop(
            plan,
            options,
            fabric,
            world,
            batches=batches,
            validation_store=validation_store,
            out=out,
            recorder=recorder,
            run={"fingerprint": identity, "run_id": tracker.run_id},
            start=start,
            first_stage=first_stage,
        )
        if state:
            loop.restore(state)
        loop.result.precision, loop.result.kept = precision, _choose_kept(options, len(validation))
        loop.run(interruption)
    return loop.result


def _require_shown(plan: TrainingPlan, first_stage: FirstStage | None) -> None:
    """Refuse a second stage whose network would not be shown what its model file says."""
    if first_stage is not None and plan.previous_values != first_stage.values:
        values = list(first_stage.values)
        message = f"no ShowPreviousMask shows the classes {values} of the first stage; plan: auto puts it in"
        raise ConfigError(message, path=plan.workflow.path, where="validate.pre_transforms")


def _choose_kept(options: TrainOptions, cases: int) -> Literal["best", "last"]:
    """Whether model.pt holds the best state or the last, given the number of cases that validate."""
    if options.keep != "auto":
        return options.keep
    return "last" if cases < CASES_TO_CHOOSE else "best"


def prepare_data(
    plan: TrainingPlan, cases: tuple[list[Case], list[Case]], options: TrainOptions, world: World, *, seed: int
) -> tuple[Batches, CachedStore]:
    """Prepare the cases to learn from and to validate on; processes share the work, and wait for each other.

    Args:
        plan: chains, pipeline and task.
        cases: those to learn from, then those to validate on.
        options: cache, threads, workers, what to do about a bad case.
        world: the processes; each begins at another place of the list.
        seed: decides the order of the cases and every random transform.

    Raises:
        DataError: cases can't be used; the message names every one.
        OSError: the disk is full, say.
    """
    threads, skip = count_threads(options), options.on_bad_case == "skip"
    cache = CaseCache.open(options.cache)
    open_store = functools.partial(
        CachedStore,
        cache=cache,
        threads=threads,
        classes=plan.label_values if plan.workflow.task == "segmentation" else None,
        skip=skip,
        turn=world.rank / world.size,
        unlabelled=plan.unlabelled,
    )
    store, validation_store = open_store(cases[0], plan.train_chain), open_store(cases[1], plan.valid_chain)
    world.gather(None)  # a barrier: pruning must not take what another process is still preparing
    if world.is_first_on_machine:
        cache.prune([*store.paths, *validation_store.paths])
    workers = min(1, threads - 1) if options.workers is None else options.workers
    pipeline = plan.train_pipeline
    batches = Batches(
        store, plan.train_chain, pipeline, seed, workers, rank=world.rank, world_size=world.size, skip=skip
    )
    return batches, validation_store


def find_unfinished_run(
    workflow: Workflow, datalist: Datalist, options: TrainOptions, out: Path, *, facts: DataFacts
) -> str | None:
    """Find the run that :func:`train` would continue with the same arguments.

    Returns:
        The tracker's id of the run; None when ``train`` would begin afresh.

    Raises:
        ConfigError: the workflow does not fit the data.
        DataError: cases are missing or can't be read.
    """
    if not options.resume or not (out / STATE).is_file():
        return None
    cases = [case for part in select_cases(datalist, TrainingPlan.build(workflow, facts)) for case in part]
    state, _ = find_matching_state(out / STATE, digest_training(workflow, cases, options, facts))
    return None if state is None else str(state["run_id"])


def _choose_start(
    out: Path, identity: dict[str, str], options: TrainOptions, world: World
) -> tuple[dict[str, Any] | None, dict[str, torch.Tensor] | None]:
    """The state to go on from, or else the weights to start from, if any; then what an older run left is removed."""
    state = world.broadcast(_find_state(out, identity, options) if world.is_first else None)
    if state is not None:
        return state, None
    # Read before anything is removed: it may be what the last run left in the same folder.
    start = read_weights(options.checkpoint) if options.checkpoint else None
    world.gather(None)
    if world.is_first:
        _remove_older_run(out)
    return None, start


def _find_state(out: Path, identity: dict[str, str], options: TrainOptions) -> dict[str, Any] | None:
    """The state to go on from; one line says what is done with what an older run left."""
    if not options.resume:
        return None
    state, reason = find_matching_state(out / STATE, identity)
    if state is not None:
        say(f"continuing the run in {out} at epoch {state['epoch']}, batch {state['batch'] + 1}")
    elif reason:
        say(f"{reason}: starting afresh")
    elif (out / FINAL).is_file():
        say(f"the run in {out} is complete: starting afresh")
    return state


def plan_training_data(
    workflow: Workflow, datalist: Datalist, facts: DataFacts
) -> tuple[TrainingPlan, list[Case], list[Case]]:
    """Build the plan, and select the labelled cases to learn from and to validate on.

    Raises:
        ConfigError: the workflow does not fit the data.
        DataError: there is no case to learn from.
    """
    plan = TrainingPlan.build(workflow, facts.model_copy(update={"label_format": datalist.label_format}))
    training, validation = select_cases(datalist, plan)
    overlap = bool(datalist.metadata.get("regions"))
    return (
        replace(plan, unlabelled=find_unlabelled(plan, [*training, *validation], overlap=overlap)),
        training,
        validation,
    )


def select_cases(datalist: Datalist, plan: TrainingPlan) -> tuple[list[Case], list[Case]]:
    """Select the labelled cases to learn from and to validate on.

    Raises:
        DataError: there is none to learn from. None to validate on is allowed, and said.
    """
    keys = plan.train_pipeline.data_list_key, plan.valid_pipeline.data_list_key
    training, validation = ([case for case in datalist.cases(key) if case.label is not None] for key in keys)
    if not training:
        raise DataError(f"the datalist has no labelled case under {keys[0]!r}")
    if not validation:
        say(f"no labelled case under {keys[1]!r}: nothing is validated, the best model is the final one")
    return training, validation


def _remove_older_run(out: Path) -> None:
    """Remove what an older run left, so that no model outlives the data and options that made it."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (BEST, FINAL, STATE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / EVENTS, ignore_errors=True)
