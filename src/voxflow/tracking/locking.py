"""Lets only one process at a time open a store: two that make its tables at the same time disturb each other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.tracking.tracker import SQLITE

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRESQL = "postgresql"
KEY = 0x566F78666C6F77  # of PostgreSQL's advisory lock: "Voxflow"


@contextlib.contextmanager
def lock_store(uri: str) -> Iterator[None]:
    """Hold the store's lock inside the block; the system, or PostgreSQL, lets go of it when the process ends.

    A server of MLflow needs none: it makes its tables when it starts.
    """
    if uri.startswith(SQLITE):
        with _file_lock(sqlite_path(uri)):
            yield
    elif uri.startswith(POSTGRESQL):
        with _advisory_lock(uri):
            yield
    else:
        yield


def sqlite_path(uri: str) -> Path:
    """The file of a SQLite store."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute()


@contextlib.contextmanager
def _file_lock(database: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: two that begin at once may see an error of SQLite's, and begin again
        yield
        return
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _advisory_lock(uri: str) -> Iterator[None]:
    from sqlalchemy import NullPool, create_engine, text

    with create_engine(uri, poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": KEY})
        yield
