"""Knows which runs have a process, so that a run whose process was killed does not stay RUNNING for ever.

A process holds the lock of a file below ``.voxflow/running`` as long as its run goes on; the system lets go of it
however the process ends. A file that nobody holds names a run whose process is gone.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import IO, TYPE_CHECKING, Any

from voxflow.places import find_home
from voxflow.progress import say
from voxflow.redaction import hide_secrets
from voxflow.tracking.locking import sqlite_path
from voxflow.tracking.tracker import SQLITE

if sys.platform != "win32":  # there, such a run stays RUNNING
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ".voxflow/running"
RUNNING, KILLED = "RUNNING", "KILLED"


@contextlib.contextmanager
def hold_run(uri: str, run_id: str) -> Iterator[None]:
    """Hold the lock of a run inside the block.

    Args:
        uri: the store of the run.
        run_id: the run, which this process works on.
    """
    if sys.platform == "win32":
        yield
        return
    path = _find_folder(uri) / f"{run_id}.json"
    with contextlib.ExitStack() as stack:
        # A disk that takes nothing any more must not end a training.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(path.open("a"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.truncate(0)
            stream.write(json.dumps({"run_id": run_id, "store": _name_store(uri)}))
            stream.flush()
            stack.callback(_remove, path)
        yield


def end_killed_runs(uri: str, client: Any, without: str | None) -> None:
    """End runs whose process is gone as KILLED, and say so in one line each.

    Args:
        uri: the store.
        client: MLflow's.
        without: the run that is about to be continued; None: there is none.

    Raises:
        Exception: one of :func:`voxflow.tracking.store.store_failures`; what was not ended is tried again next time.
    """
    if sys.platform == "win32":
        return
    for path in sorted(_find_folder(uri).glob("*.json")):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), path.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            run_id = _read_run_id(stream, uri)
            if run_id and run_id != without:
                _end_run(client, run_id)
                _remove(path)


def _end_run(client: Any, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return
        raise
    if info.status == RUNNING and info.lifecycle_stage == "active":
        client.set_terminated(run_id, KILLED)
        say(f"the process of the MLflow run {run_id} was killed; the run is ended as {KILLED}")


def _read_run_id(stream: IO[str], uri: str) -> str:
    """The run that a file names; empty where it is being written, or is of another store."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        entry = json.loads(stream.read())
        return str(entry["run_id"]) if entry["store"] == _name_store(uri) else ""
    return ""


def _name_store(uri: str) -> str:
    """The store's address; of a SQLite file its name, since it may move together with its folder."""
    return f"{SQLITE}{sqlite_path(uri).name}" if uri.startswith(SQLITE) else hide_secrets(uri)


def _find_folder(uri: str) -> Path:
    return (sqlite_path(uri).parent if uri.startswith(SQLITE) else find_home().absolute()) / FOLDER


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    # Where nothing else is kept, nothing is left.
    for folder in (path.parent, path.parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
