"""Knows which runs have a process, so that a run whose process was killed does not stay RUNNING for ever.

A process holds the lock of a file below ``.voxflow/running`` as long as its run goes on; the system lets go of it
however the process ends. A file that nobody holds names a run whose process is gone. In the same way a process holds
the backlog of its run, so that others send only what nobody writes to any more.
"""

from __future__ import annotations

import contextlib
import json
import os
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
MOST_ATTEMPTS = 100  # at a lock file that other processes remove at the same time


@contextlib.contextmanager
def hold_run(uri: str, run_id: str) -> Iterator[None]:
    """Hold the lock of a run inside the block.

    Args:
        uri: the store of the run.
        run_id: the run, which this process works on.
    """
    with _hold(_find_folder(uri) / f"{run_id}.json", json.dumps({"run_id": run_id, "store": _name_store(uri)})):
        yield


@contextlib.contextmanager
def hold_backlog(path: Path) -> Iterator[bool]:
    """Hold the lock of a backlog inside the block, so that no other process sends it while it is being written.

    Yields:
        Whether this process has the lock; another one may write to the backlog, or send it.
    """
    with _hold(_find_home_folder() / f"{path.stem}.lock") as is_held:
        yield is_held


def remove_left_locks() -> None:
    """Remove the locks of backlogs whose processes were killed."""
    for path in _find_home_folder().glob("*.lock"):
        with _hold(path):
            pass


@contextlib.contextmanager
def _hold(path: Path, content: str = "") -> Iterator[bool]:
    if sys.platform == "win32":
        yield True
        return
    with contextlib.ExitStack() as stack:
        is_held = False
        # A disk that takes nothing any more must not end a training.
        with contextlib.suppress(OSError):
            stream = stack.enter_context(_open_locked(path))
            stack.callback(_remove, path)
            is_held = True
            stream.truncate(0)
            stream.write(content)
            stream.flush()
        yield is_held


def _open_locked(path: Path) -> IO[str]:
    """Make a file and lock it, though other processes remove it, or its folder, when they end.

    Raises:
        OSError: another process has the lock, or the file can't be made.
    """
    for _ in range(MOST_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError), contextlib.ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(path.open("a"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(stream.fileno()).st_nlink:
                stack.pop_all()
                return stream
    raise BlockingIOError(f"{path} is made and removed all the time")


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
            is_there = os.fstat(stream.fileno()).st_nlink > 0
            if is_there and run_id and run_id != without:
                end_killed_run(client, run_id)
                _remove(path)


def end_killed_run(client: Any, run_id: str) -> None:
    """End a run whose process is gone as KILLED, unless it has ended; a run that the store does not know is none."""
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
    return sqlite_path(uri).parent / FOLDER if uri.startswith(SQLITE) else _find_home_folder()


def _find_home_folder() -> Path:
    return find_home().absolute() / FOLDER


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    # Where nothing else is kept, nothing is left.
    for folder in (path.parent, path.parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
