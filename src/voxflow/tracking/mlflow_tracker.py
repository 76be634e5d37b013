"""Owns MLflow: the only module that imports it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.progress import say
from voxflow.tracking.provenance import as_params, provenance, safe_name
from voxflow.tracking.tracker import NullTracker, Tracker, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ARTIFACTS = "mlartifacts"
SQLITE = "sqlite:///"
# A server that is away must not hold a training up: MLflow's own defaults wait for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
NO_BARS = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
SYSTEM_METRICS_INTERVAL_S = 5


@dataclass
class MlflowTracker:
    """Records into one MLflow run, which is active while the context of begin_run or continue_run lasts.

    Attributes:
        run_id: MLflow's id of the run.
        status: what the run ends with when its context ends without an error.
    """

    run_id: str
    status: str = "FINISHED"
    _client: Any = field(default=None, repr=False)
    _is_lost: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, flattened to dotted names; a value recorded before is kept."""
        self._attempt("parameters", lambda: self._params(as_params(values)))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record finite numbers."""
        import mlflow

        finite = {safe_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        if finite:
            self._attempt("metrics", lambda: mlflow.log_metrics(finite, step=step, run_id=self.run_id))

    def tags(self, values: Mapping[str, str]) -> None:
        """Record short facts."""
        self._attempt("tags", lambda: [self._client.set_tag(self.run_id, *tag) for tag in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder."""
        if not path.exists():
            say(f"warning: {path} is not there, so MLflow keeps no copy of it")
            return
        keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        self._attempt(f"{path}", lambda: keep(self.run_id, str(path), folder))

    def model(self, path: Path, name: str = "model") -> str:
        """Keep an ONNX file as an MLflow model, with the signature that its inputs and outputs state."""
        uri: list[str] = []
        self._attempt(f"model {path}", lambda: uri.append(_log_onnx(path, name)))
        return uri[0] if uri else ""

    def interrupted(self) -> None:
        """Let the run end as KILLED."""
        self.status = "KILLED"

    def end(self, status: str) -> None:
        """End the run."""
        import mlflow

        self._attempt("end", lambda: mlflow.end_run(status))

    def _params(self, values: Mapping[str, str]) -> None:
        import mlflow

        known = self._client.get_run(self.run_id).data.params
        mlflow.log_params({key: value for key, value in values.items() if key not in known}, run_id=self.run_id)

    def _attempt(self, what: str, call: Callable[[], Any]) -> None:
        """Make one call; when the store fails, say so once and make no other: each could wait for a long time."""
        if self._is_lost:
            return
        try:
            call()
        except failures() as error:
            self._is_lost = True
            say(f"warning: MLflow could not record {what} and gets no more of this run: {first_line(error)}")


@contextlib.contextmanager
def begin_run(
    experiment: str,
    *,
    params: Mapping[str, Any] | None = None,
    datalist: Path | None = None,
    run_id: str | None = None,
) -> Iterator[Tracker]:
    """Begin the run of a training, or go on with that of one that was killed.

    Args:
        experiment: the workspace's name.
        params: the workspace's block of params.yaml.
        datalist: the datalist file, whose hash becomes a tag.
        run_id: the run to go on with; one that the store does not know (any more) is begun afresh.

    Yields:
        The tracker. When the tracking store can't be reached, one line says so and nothing is recorded: a
        training must not die of it.
    """
    with _active_run(experiment, run_id or None) as tracker:
        tracker.params(params or {})
        tracker.tags({"workspace": experiment, **provenance(datalist)})
        yield tracker


@contextlib.contextmanager
def continue_run(run_id: str) -> Iterator[Tracker]:
    """Continue the run that a training began, by its id; an empty id keeps no record."""
    if not run_id:
        yield NullTracker()
        return
    with _active_run(None, run_id) as tracker:
        yield tracker


@contextlib.contextmanager
def _active_run(experiment: str | None, run_id: str | None) -> Iterator[Tracker]:
    try:
        tracker = _start(experiment, run_id)
    except failures() as error:
        say(f"warning: the MLflow store can't be used, so nothing is recorded there: {first_line(error)}")
        yield NullTracker(run_id or "")
        return
    status = "FAILED"
    try:
        yield tracker
        status = tracker.status
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end(status)


def open_store() -> None:
    """Point MLflow at the tracking store, quietly and without waiting for minutes.

    Raises:
        sqlite3.Error: the store is a file that is no database.
    """
    for name, value in (PATIENCE | NO_BARS).items():
        os.environ.setdefault(name, value)
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    _check_sqlite(tracking_uri())
    mlflow.set_tracking_uri(tracking_uri())


def _start(experiment: str | None, run_id: str | None) -> MlflowTracker:
    open_store()
    import mlflow

    with _one_at_a_time(tracking_uri()), warnings.catch_warnings():
        # MLflow opens its database with options that SQLAlchemy deprecates; that is not this project's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        if experiment is None:
            run = mlflow.start_run(run_id=run_id, log_system_metrics=False)
        else:
            mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_INTERVAL_S)
            known = {"run_id": run_id} if _exists(run_id) else {"experiment_id": _experiment_id(experiment)}
            run = mlflow.start_run(**known, log_system_metrics=True)
    return MlflowTracker(run.info.run_id)


def _exists(run_id: str | None) -> bool:
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


def _experiment_id(name: str) -> str:
    """The experiment's id; a new one keeps its artifacts beside the SQLite file, or where the server says."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name)))
        except MlflowException:
            # Another training may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _artifact_location(experiment: str) -> str | None:
    if not tracking_uri().startswith(SQLITE):
        return None
    return (sqlite_file(tracking_uri()).parent / ARTIFACTS / experiment).as_uri()


def _check_sqlite(uri: str) -> None:
    """Find a file that can't be opened at once; MLflow would try for a minute and a half."""
    if uri.startswith(SQLITE):
        with contextlib.closing(sqlite3.connect(sqlite_file(uri))) as connection:
            connection.execute("PRAGMA schema_version").fetchone()


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process open a SQLite store: two that make its tables at once break each other's work."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    if not uri.startswith(SQLITE):
        yield
        return
    database = sqlite_file(uri)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sqlite_file(uri: str) -> Path:
    """The file of a SQLite store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute()


def _log_onnx(path: Path, name: str) -> str:
    with warnings.catch_warnings():
        # MLflow warns of type hints in its own modules when it loads them.
        warnings.simplefilter("ignore")
        import mlflow.onnx
        import numpy as np
        import onnx

        model = onnx.load(str(path))
        needed = [*mlflow.onnx.get_default_pip_requirements(), f"numpy=={np.__version__}"]
        info = mlflow.onnx.log_model(model, name=name, signature=_signature(model), pip_requirements=needed)
    return str(info.model_uri)


def _signature(model: Any) -> Any:
    """What the ONNX graph states of its inputs and outputs; -1 where a size may vary."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
        return TensorSpec(tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)

    return ModelSignature(Schema([spec(v) for v in model.graph.input]), Schema([spec(v) for v in model.graph.output]))


def failures() -> tuple[type[Exception], ...]:
    """What a store that is away, full, locked or of another version can raise."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


def first_line(error: Exception) -> str:
    """What a store's error says, short."""
    return (str(error).splitlines() or [type(error).__name__])[0]
