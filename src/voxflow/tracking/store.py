"""Connects to the MLflow store: without noise, within seconds, and with an early message if it can't be reached.

MLflow by itself retries a server for minutes, prints progress bars and migration logs, and needs a minute and a half to
find out that a SQLite file can't be opened. A training must not wait for any of that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.naming import make_case_name
from voxflow.tracking.locking import sqlite_path
from voxflow.tracking.moving import correct_places
from voxflow.tracking.tracker import SQLITE, get_tracking_uri, is_server, move_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACTS = "mlartifacts"
UNNAMED = "unnamed"  # the experiment of what has no name
# MLflow's pages open an experiment of this kind on its training runs; those of MLflow 3.17 go by the address or by the
# person's last choice first (TRAININGS_QUERY of pages.py). They guess a kind only for a person who looks.
KIND, TRAININGS = "mlflow.experimentKind", "custom_model_development"
GUESSED_KINDS = ("", "no_inferred_type", "genai_development_inferred", f"{TRAININGS}_inferred")
# A server that is away must not hold a training up: MLflow's own defaults wait for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
NO_BARS = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def load_mlflow() -> None:
    """Import MLflow and its store, so that a measurement of memory holds what they take of a training's process."""
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.system_metrics.system_metrics_monitor  # noqa: F401


def configure_mlflow() -> None:
    """Point MLflow at the tracking store, quietly and without waiting for minutes.

    A store that was moved, copied or restored finds its files where it lies now.

    Raises:
        sqlite3.Error: the store is a file that is no database.
        sqlalchemy.exc.SQLAlchemyError: the database is away, or it was moved and can't be written.
    """
    for name, value in (PATIENCE | NO_BARS).items():
        os.environ.setdefault(name, value)
    move_credentials()
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # It logs a traceback of what it raises, which is told in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    _check_database(get_tracking_uri())
    with ignore_deprecations():
        correct_places(get_tracking_uri())
    mlflow.set_tracking_uri(get_tracking_uri())


@contextlib.contextmanager
def ignore_deprecations() -> Iterator[None]:
    """Hold back the DeprecationWarnings of MLflow's own code while the block runs."""
    with warnings.catch_warnings():
        # MLflow opens its database with options that SQLAlchemy deprecates; that is not this project's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def has_run(run_id: str | None) -> bool:
    """Whether the store has this run, and it was not deleted.

    Raises:
        mlflow.exceptions.MlflowException: the store can't be reached.
    """
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
    """Find an experiment by its name, or create it.

    A new experiment keeps its artifacts beside the SQLite file, or where the server says.

    Args:
        name: of the experiment; one that is a place in a path, such as ``..``, or nothing becomes ``unnamed``.

    Returns:
        MLflow's id of the experiment.

    Raises:
        mlflow.exceptions.MlflowException: the store can't be reached.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name = UNNAMED if not name.strip(". /") else name
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            tags = {KIND: TRAININGS}
            return str(client.create_experiment(name, artifact_location=_artifact_location(name), tags=tags))
        except MlflowException:
            # Another training may have made it in between.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.tags.get(KIND, "") in GUESSED_KINDS:
        client.set_experiment_tag(experiment.experiment_id, KIND, TRAININGS)
    return str(experiment.experiment_id)


def _artifact_location(experiment: str) -> str | None:
    if not get_tracking_uri().startswith(SQLITE):
        return None
    return (sqlite_path(get_tracking_uri()).parent / ARTIFACTS / make_case_name(experiment)).as_uri()


def _check_database(uri: str) -> None:
    """Find a database that can't be opened at once; MLflow would try for a minute and a half."""
    if uri.startswith(SQLITE):
        with contextlib.closing(sqlite3.connect(sqlite_path(uri))) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    elif not is_server(uri):
        from sqlalchemy import NullPool, create_engine

        with create_engine(uri, poolclass=NullPool).connect():
            pass


def download_artifacts(run_id: str, folder: str, target: Path) -> bool:
    """Download what a folder of a run's artifacts holds.

    Args:
        run_id: of the run.
        folder: of its artifacts, such as "test".
        target: an existing folder, which gets the files and folders.

    Returns:
        False where the run has no such folder.
    """
    from mlflow import MlflowClient

    client = MlflowClient()
    if not client.list_artifacts(run_id, folder):
        return False
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        for path in list(Path(client.download_artifacts(run_id, folder, scratch)).iterdir()):
            path.rename(target / path.name)
    return True


def store_failures() -> tuple[type[Exception], ...]:
    """The exceptions of a store that is away, full, locked or of another version, for an ``except`` clause."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError


def first_line_of(error: Exception) -> str:
    """The first line of an error's text, or its type where it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
