"""Begins, continues and ends the MLflow run of a training, and sends what earlier runs could not record.

A run is begun by the stage train, and continued by its id in the stages after it. Where the store can't be reached, the
run gets an OfflineTracker: its lines go to a backlog file below ``.voxflow/unsent`` and are sent by the next run that
reaches the store.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from voxflow.progress import say
from voxflow.tracking.backlog import Backlog, list_backlogs
from voxflow.tracking.inputs import NOTE, describe_run, make_datasets, name_run
from voxflow.tracking.locking import lock_store
from voxflow.tracking.mlflow_tracker import MlflowTracker, OfflineTracker
from voxflow.tracking.moving import require_place
from voxflow.tracking.provenance import read_flow_run_tags, read_provenance
from voxflow.tracking.running import (
    KILLED,
    end_killed_run,
    end_killed_runs,
    hold_backlog,
    hold_run,
    remove_left_locks,
)
from voxflow.tracking.store import (
    configure_mlflow,
    first_line_of,
    get_experiment_id,
    has_run,
    ignore_deprecations,
    store_failures,
)
from voxflow.tracking.sweeps import EXPERIMENT, PARENT, is_sweep
from voxflow.tracking.tracker import NullTracker, Tracker, get_tracking_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SYSTEM_METRICS_INTERVAL_S = 5  # MLflow's own 10 seconds leave a short training without a curve
RUN_NAME = "mlflow.runName"


@contextlib.contextmanager
def begin_run(
    experiment: str,
    *,
    params: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    datalist: Path | None = None,
    run_id: str | None = None,
    part: str = "",
) -> Iterator[Tracker]:
    """Begin the run of a training, or go on with that of one that was killed.

    Args:
        experiment: the workspace's name.
        params: the workspace's block of params.yaml.
        facts: what is trained, such as the network and the patch; they become parameters, and stand in the description.
        datalist: the datalist file, whose digest becomes a tag, and whose parts become the run's datasets.
        run_id: the run to go on with; one that the store does not know (any more) is begun afresh.
        part: what of the workspace's work it is, such as "fold 1". The run is called by workspace, part, data and date,
            but an experiment of DVC as DVC calls it.

    Yields:
        The tracker. When the tracking store can't be reached, one line says so and nothing is recorded: a
        training must not die of it.
    """
    with _active_run(experiment, run_id or None) as tracker:
        tracker.log_params({**(params or {}), **(facts or {})})
        provenance = read_provenance(datalist)
        tags = {"workspace": experiment, **provenance, **read_flow_run_tags()}
        if not run_id or tracker.run_id != run_id:
            # A run that goes on keeps its name, which has the date of its beginning, and what a person wrote of it.
            tags[RUN_NAME] = provenance.get(EXPERIMENT) or name_run(experiment, datalist, part)
            tags[NOTE] = describe_run(experiment, datalist, facts or {})
        tracker.log_tags(tags)
        tracker.log_datasets(make_datasets(experiment, datalist))
        yield tracker


@contextlib.contextmanager
def continue_run(run_id: str) -> Iterator[Tracker]:
    """Continue the run that a training began.

    Args:
        run_id: from run.json; empty: no record is kept.

    Yields:
        The tracker; where the store can't be reached, one that keeps everything for later.
    """
    if not run_id:
        yield NullTracker()
        return
    with _active_run(None, run_id) as tracker:
        if tags := read_flow_run_tags("last_"):
            tracker.log_tags(tags)
        yield tracker


def find_common_parent(run_ids: Sequence[str]) -> str | None:
    """The run that an earlier :meth:`Tracker.adopt` made the parent of all of these.

    Returns:
        The parent's id; None where there is none, where they have several, and where the store can't be reached.
    """
    try:
        configure_mlflow()
        from mlflow import MlflowClient

        with lock_store(get_tracking_uri()), ignore_deprecations():
            client = MlflowClient()
            parents = {client.get_run(run_id).data.tags.get(PARENT) for run_id in run_ids if has_run(run_id)}
            parent = parents.pop() if len(parents) == 1 else None
            return parent if parent and has_run(parent) and not is_sweep(client.get_run(parent)) else None
    except store_failures():
        # Where the store is away, begin_run says so and keeps everything for later.
        return None


@contextlib.contextmanager
def _active_run(experiment: str | None, run_id: str | None) -> Iterator[Tracker]:
    tracker: MlflowTracker | OfflineTracker
    with contextlib.ExitStack() as stack:
        try:
            tracker = _start_run(experiment, run_id, stack)
        except store_failures() as error:
            tracker = OfflineTracker(Backlog.for_run(experiment or "", run_id or ""), run_id or "")
            explanation = f"what is to be recorded is kept in {tracker.backlog.path}"
            reason = first_line_of(error)
            say(f"warning: the MLflow store can't be used, {explanation} and sent when it is back: {reason}")
        stack.enter_context(hold_backlog(tracker.backlog.path))
        status = "FAILED"
        try:
            if isinstance(tracker, MlflowTracker):
                _send_backlogs(tracker.backlog.path)
            yield tracker
            status = tracker.status
        except KeyboardInterrupt:
            status = KILLED
            raise
        finally:
            tracker.end(status)


def _start_run(experiment: str | None, run_id: str | None, stack: contextlib.ExitStack) -> MlflowTracker:
    """Begin or continue a run; ``stack`` gets its lock, before another process may look for killed runs."""
    configure_mlflow()
    import mlflow

    with lock_store(get_tracking_uri()), ignore_deprecations():
        client = mlflow.MlflowClient()
        end_killed_runs(get_tracking_uri(), client, without=run_id)
        if experiment is None or has_run(run_id):
            require_place(client.get_run(run_id).info.artifact_uri)
            mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_INTERVAL_S)
            run = mlflow.start_run(run_id=run_id, log_system_metrics=experiment is not None)
        else:
            experiment_id = get_experiment_id(experiment)
            require_place(client.get_experiment(experiment_id).artifact_location)
            mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_INTERVAL_S)
            run = mlflow.start_run(experiment_id=experiment_id, log_system_metrics=True)
        stack.enter_context(hold_run(get_tracking_uri(), run.info.run_id))
    return MlflowTracker(run.info.run_id, backlog=Backlog.for_run(experiment or "", run.info.run_id))


def _send_backlogs(own: Path) -> None:
    """Send what earlier processes could not; those that go on, and this one, send their own.

    Args:
        own: the backlog of this process's run.
    """
    remove_left_locks()
    for path in list_backlogs():
        with hold_backlog(path) if path != own else contextlib.nullcontext(False) as is_held:
            if is_held and not _send_backlog(path):
                return


def _send_backlog(path: Path) -> bool:
    """Send a backlog whose process is gone; a run that the store does not know gets a new one.

    Returns:
        Whether the store could be reached; a file that can't be read is left alone.
    """
    from mlflow import MlflowClient

    try:
        backlog = Backlog.read(path)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return True
    client = MlflowClient()
    try:
        if not has_run(backlog.run_id):
            backlog.run_id = client.create_run(get_experiment_id(backlog.experiment)).info.run_id
        backlog.send(MlflowTracker(backlog.run_id).record_entry)
        if backlog.run_id != path.stem:
            # Nobody else knows a run that began while the store was away; killed, it has no entry of its end.
            end_killed_run(client, backlog.run_id)
    except store_failures() as error:
        say(f"warning: {path} could not be sent yet: {first_line_of(error)}")
        return False
    say(f"sent to MLflow what an earlier run of {backlog.experiment or 'a workspace'} could not ({backlog.run_id})")
    return True
