"""Owns MLflow: the only module that imports it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.progress import say
from voxflow.tracking.backlog import Backlog, find_left_behind
from voxflow.tracking.locking import lock_store, sqlite_path
from voxflow.tracking.provenance import make_safe_name, read_flow_run_tags, read_provenance, to_params
from voxflow.tracking.sweeps import BASELINE, EXPERIMENT, PARENT, find_parent_tag, is_sweep
from voxflow.tracking.table import log_table
from voxflow.tracking.tracker import SQLITE, NullTracker, Tracker, get_tracking_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ARTIFACTS = "mlartifacts"
# A server that is away must not hold a training up: MLflow's own defaults wait for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
NO_BARS = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
SYSTEM_METRICS_INTERVAL_S = 5
RETRY_S = 600  # how long a store that is away is left alone
RUN_NAME = "mlflow.runName"
BATCH = 100  # of parameters and tags, as MLflow takes them at most


@dataclass
class MlflowTracker:
    """Records into one MLflow run, which is active while the context of begin_run or continue_run lasts.

    Attributes:
        run_id: MLflow's id of the run.
        status: what the run ends with when its context ends without an error.
        backlog: where goes what the store can't take.
    """

    run_id: str
    status: str = "FINISHED"
    _client: Any = field(default=None, repr=False)
    backlog: Backlog = field(default_factory=lambda: Backlog.for_run("", ""), repr=False)
    _lost_since: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, flattened to dotted names; a value recorded before is kept."""
        self._attempt("parameters", {"kind": "params", "values": to_params(values)})

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record finite numbers."""
        finite = {make_safe_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        if finite:
            self._attempt("metrics", {"kind": "metrics", "values": finite, "step": step})

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Record short facts."""
        self._attempt("tags", {"kind": "tags", "values": dict(values)})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder."""
        if not path.exists():
            say(f"warning: {path} is not there, so MLflow keeps no copy of it")
            return
        self._attempt(f"{path}", {"kind": "artifact", "path": str(path.absolute()), "folder": folder})

    def log_table(self, path: Path, name: str) -> None:
        """Keep a CSV as a table; one of this name that is there is replaced."""
        if path.is_file():
            self._attempt(f"{path}", {"kind": "table", "path": str(path.absolute()), "name": name})

    def log_model(self, path: Path, name: str = "model") -> str:
        """Keep an ONNX file as an MLflow model, with the signature that its inputs and outputs state."""
        if self._is_lost:
            return ""
        try:
            return _log_onnx(path, name)
        except store_failures() as error:
            self._note_loss(f"model {path}", error)
            return ""

    def adopt(self, run_ids: Sequence[str]) -> None:
        """Make this run the parent of others; one that the store does not know is left out."""
        self._attempt("child runs", {"kind": "children", "values": [run_id for run_id in run_ids if run_id]})

    def mark_interrupted(self) -> None:
        """Let the run end as KILLED."""
        self.status = "KILLED"

    def end(self, status: str) -> None:
        """End the run, and send what waits."""
        import mlflow

        self._lost_since = None if self._lost_since is None else -math.inf  # so that it is tried once more
        try:
            self.backlog.send(self.record_entry)
            self._client.set_terminated(self.run_id, status)
        except store_failures() as error:
            self._note_loss("end", error)
            self.backlog.add("end", status=status)
        with contextlib.suppress(*store_failures()):
            mlflow.end_run(status)

    def record_entry(self, entry: Mapping[str, Any]) -> None:
        """Record one call, made now or kept from before."""
        values = entry.get("values", {})
        match entry["kind"]:
            case "params":
                recorded = self._client.get_run(self.run_id).data.params
                self._log_batches(params={key: value for key, value in values.items() if key not in recorded})
            case "metrics":
                moment, step = entry.get("time") or int(time.time() * 1000), entry.get("step") or 0
                self._log_batches(metrics={key: (value, moment, step) for key, value in values.items()})
            case "tags":
                self._log_batches(tags={**values, **self._find_parent(values)})
            case "artifact":
                keep = self._client.log_artifacts if Path(entry["path"]).is_dir() else self._client.log_artifact
                keep(self.run_id, entry["path"], entry["folder"])
            case "children":
                for run_id in filter(has_run, values):
                    self._client.set_tag(run_id, PARENT, self.run_id)
            case "table":
                log_table(self._client, self.run_id, Path(entry["path"]), entry["name"])
            case "end":
                self._client.set_terminated(self.run_id, entry["status"])

    def _find_parent(self, tags: Mapping[str, str]) -> dict[str, str]:
        if BASELINE not in tags:
            return {}
        with lock_store(get_tracking_uri()), _ignore_deprecations():
            return find_parent_tag(self._client, self.run_id, tags)

    def _log_batches(self, **kinds: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        entities_by_kind = {
            "params": [Param(key, str(value)) for key, value in kinds.get("params", {}).items()],
            "metrics": [Metric(key, *value) for key, value in kinds.get("metrics", {}).items()],
            "tags": [RunTag(key, str(value)) for key, value in kinds.get("tags", {}).items()],
        }
        for kind, entities in entities_by_kind.items():
            for first in range(0, len(entities), BATCH):
                self._client.log_batch(self.run_id, **{kind: entities[first : first + BATCH]})

    @property
    def _is_lost(self) -> bool:
        return self._lost_since is not None and time.monotonic() - self._lost_since < RETRY_S

    def _attempt(self, subject: str, entry: dict[str, Any]) -> None:
        """Make one call; when the store fails, say so once, and keep this and later ones for when it is back.

        A store that is away is asked again after some minutes only: each call could wait for a long time.
        """
        if self._is_lost:
            self.backlog.add(**entry)
            return
        try:
            self.backlog.send(self.record_entry)
            self.record_entry(entry)
            self._lost_since = None
        except store_failures() as error:
            self._note_loss(subject, error)
            self.backlog.add(**entry)

    def _note_loss(self, subject: str, error: Exception) -> None:
        if self._lost_since is None:
            say(
                f"warning: MLflow could not record {subject}; this and what follows is kept in {self.backlog.path} "
                f"and sent when it is back: {first_line_of(error)}"
            )
        self._lost_since = time.monotonic()


@dataclass
class OfflineTracker:
    """Keeps everything for a store that was away when the run began; a later run sends it.

    Attributes:
        backlog: where it goes.
        run_id: empty, or the id of the run that was to be continued.
    """

    backlog: Backlog
    run_id: str = ""
    status: str = "FINISHED"

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Keep them."""
        self.backlog.add("params", values=to_params(values))

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Keep finite numbers."""
        finite = {make_safe_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        self.backlog.add("metrics", values=finite, step=step)

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Keep them."""
        self.backlog.add("tags", values=dict(values))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep where it lies."""
        self.backlog.add("artifact", path=str(path.absolute()), folder=folder)

    def log_table(self, path: Path, name: str) -> None:
        """Keep where it lies."""
        self.backlog.add("table", path=str(path.absolute()), name=name)

    def log_model(self, path: Path, name: str = "model") -> str:
        """Models are not kept for later: they are in the workspace."""
        del path, name
        return ""

    def adopt(self, run_ids: Sequence[str]) -> None:
        """Keep which they are."""
        self.backlog.add("children", values=[run_id for run_id in run_ids if run_id])

    def mark_interrupted(self) -> None:
        """Let the run end as KILLED."""
        self.status = "KILLED"

    def end(self, status: str) -> None:
        """Keep how it ended."""
        self.backlog.add("end", status=status)


def _send_backlogs() -> None:
    """Send what earlier runs could not; one that the store does not know gets a run of its own."""
    from mlflow import MlflowClient

    for backlog in find_left_behind():
        run_id = backlog.run_id
        if not has_run(run_id):
            client = MlflowClient()
            run_id = client.create_run(get_experiment_id(backlog.experiment or "unnamed")).info.run_id
            backlog.run_id = run_id
        try:
            backlog.send(MlflowTracker(run_id).record_entry)
        except store_failures() as error:
            say(f"warning: {backlog.path} could not be sent yet: {first_line_of(error)}")
            return
        say(f"sent to MLflow what an earlier run of {backlog.experiment or 'a workspace'} could not ({run_id})")


@contextlib.contextmanager
def begin_run(
    experiment: str,
    *,
    params: Mapping[str, Any] | None = None,
    datalist: Path | None = None,
    run_id: str | None = None,
    name: str | None = None,
) -> Iterator[Tracker]:
    """Begin the run of a training, or go on with that of one that was killed.

    Args:
        experiment: the workspace's name.
        params: the workspace's block of params.yaml.
        datalist: the datalist file, whose hash becomes a tag.
        run_id: the run to go on with; one that the store does not know (any more) is begun afresh.
        name: what the run is called; left out, it is called as the experiment of DVC that it belongs to, else MLflow
            invents a name.

    Yields:
        The tracker. When the tracking store can't be reached, one line says so and nothing is recorded: a
        training must not die of it.
    """
    with _active_run(experiment, run_id or None) as tracker:
        tracker.log_params(params or {})
        provenance = read_provenance(datalist)
        name = name or provenance.get(EXPERIMENT)
        name_tag = {RUN_NAME: name} if name else {}
        tracker.log_tags({"workspace": experiment, **provenance, **read_flow_run_tags(), **name_tag})
        yield tracker


@contextlib.contextmanager
def continue_run(run_id: str) -> Iterator[Tracker]:
    """Continue the run that a training began, by its id; an empty id keeps no record."""
    if not run_id:
        yield NullTracker()
        return
    with _active_run(None, run_id) as tracker:
        if tags := read_flow_run_tags("last_"):
            tracker.log_tags(tags)
        yield tracker


def find_common_parent(run_ids: Sequence[str]) -> str | None:
    """The run that an earlier :meth:`Tracker.adopt` made the parent of all of these; None when there is none."""
    try:
        configure_mlflow()
        from mlflow import MlflowClient

        with lock_store(get_tracking_uri()), _ignore_deprecations():
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
    try:
        tracker = _start_run(experiment, run_id)
    except store_failures() as error:
        tracker = OfflineTracker(Backlog.for_run(experiment or "", run_id or ""), run_id or "")
        explanation = f"what is to be recorded is kept in {tracker.backlog.path}"
        say(f"warning: the MLflow store can't be used, {explanation} and sent when it is back: {first_line_of(error)}")
    status = "FAILED"
    try:
        yield tracker
        status = tracker.status
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end(status)


def configure_mlflow() -> None:
    """Point MLflow at the tracking store, quietly and without waiting for minutes.

    Raises:
        sqlite3.Error: the store is a file that is no database.
    """
    for name, value in (PATIENCE | NO_BARS).items():
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    _check_sqlite(get_tracking_uri())
    mlflow.set_tracking_uri(get_tracking_uri())


@contextlib.contextmanager
def _ignore_deprecations() -> Iterator[None]:
    with warnings.catch_warnings():
        # MLflow opens its database with options that SQLAlchemy deprecates; that is not this project's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _start_run(experiment: str | None, run_id: str | None) -> MlflowTracker:
    configure_mlflow()
    import mlflow

    with lock_store(get_tracking_uri()), _ignore_deprecations():
        if experiment is None:
            run = mlflow.start_run(run_id=run_id, log_system_metrics=False)
        else:
            mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_INTERVAL_S)
            run_place = {"run_id": run_id} if has_run(run_id) else {"experiment_id": get_experiment_id(experiment)}
            run = mlflow.start_run(**run_place, log_system_metrics=True)
    _send_backlogs()
    return MlflowTracker(run.info.run_id, backlog=Backlog.for_run(experiment or "", run.info.run_id))


def has_run(run_id: str | None) -> bool:
    """Whether the store has this run, not deleted."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if not run_id:
        return False
    try:
        return bool(MlflowClient().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def get_experiment_id(name: str) -> str:
    """The experiment's id; a new one keeps its artifacts beside the SQLite file, or where the server says."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name)))
        except MlflowException:
            # Another training may have made it in between.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return str(experiment.experiment_id)


def _artifact_location(experiment: str) -> str | None:
    if not get_tracking_uri().startswith(SQLITE):
        return None
    return (sqlite_path(get_tracking_uri()).parent / ARTIFACTS / experiment).as_uri()


def _check_sqlite(uri: str) -> None:
    """Find a file that can't be opened at once; MLflow would try for a minute and a half."""
    if uri.startswith(SQLITE):
        with contextlib.closing(sqlite3.connect(sqlite_path(uri))) as connection:
            connection.execute("PRAGMA schema_version").fetchone()


def _log_onnx(path: Path, name: str) -> str:
    with warnings.catch_warnings():
        # MLflow warns of type hints in its own modules when it loads them.
        warnings.simplefilter("ignore")
        import mlflow.onnx
        import numpy as np
        import onnx

        model = onnx.load(str(path))
        needed = [*mlflow.onnx.get_default_pip_requirements(), f"numpy=={np.__version__}"]
        info = mlflow.onnx.log_model(model, name=name, signature=_read_signature(model), pip_requirements=needed)
    return str(info.model_uri)


def _read_signature(model: Any) -> Any:
    """What the ONNX graph states of its inputs and outputs; -1 where a size may vary."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        return TensorSpec(tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)

    return ModelSignature(Schema([spec(v) for v in model.graph.input]), Schema([spec(v) for v in model.graph.output]))


def store_failures() -> tuple[type[Exception], ...]:
    """What a store that is away, full, locked or of another version can raise."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


def first_line_of(error: Exception) -> str:
    """What a store's error says, short."""
    return (str(error).splitlines() or [type(error).__name__])[0]
