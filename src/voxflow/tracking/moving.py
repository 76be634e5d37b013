"""Lets a store that was moved, copied or restored find its files.

MLflow writes the absolute place of a run's files into its tables. So a ``mlflow.db`` that lies in another folder than
before would read, and write, in the folder where it was. Voxflow keeps these files beside the SQLite file: when it
opens a store, it corrects the places that say otherwise. A database server has no folder of its own, so its places are
corrected by ``python -m tasks.ops.restore --moved-from FOLDER`` only.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from voxflow.errors import VoxflowError
from voxflow.progress import say
from voxflow.tracking.locking import lock_store, sqlite_path
from voxflow.tracking.tracker import SQLITE, get_tracking_uri, is_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

# Where MLflow keeps places of files.
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# Voxflow's folder for files, and MLflow's own; both stand beside the store.
FOLDERS = ("mlartifacts", "mlruns")
# An experiment may have the name of one of them.
PLACE = re.compile(
    r"(?P<scheme>file://)?(?P<root>/.*(?<!/mlartifacts)(?<!/mlruns))/(?P<folder>mlartifacts|mlruns)/(?P<rest>.+)"
)

_checked_stores: set[tuple[str, int, int]] = set()


def correct_places(uri: str) -> None:
    """Correct the places of files in a SQLite store that was moved; say so in one line. Nothing, for other stores.

    A place is corrected where its files lie beside the store, where the former folder is gone, or where it has a store
    of its own, of which this one is a copy. A folder that a person chose for an experiment stays.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the store can't be read or written.
    """
    if not uri.startswith(SQLITE) or not (database := sqlite_path(uri)).is_file():
        return
    status = database.stat()
    if (mark := (str(database), status.st_dev, status.st_ino)) in _checked_stores:
        return
    home = database.parent

    def has_moved(root: Path, folder: str, name: str) -> bool:
        if root == home or (root.is_dir() and root.samefile(home)):
            return False
        has_files_here = (home / folder / name).exists()
        return has_files_here or not (root / folder).is_dir() or (root / database.name).is_file()

    roots = _rewrite_places(uri, home, has_moved)
    _checked_stores.add(mark)
    for root in roots:
        say(f"{database.name} was in {root}; its files are now looked for, and written, in {home}")


def check_store(uri: str) -> None:
    """Check that a database can be used, and correct its places, before a server is started on it.

    Raises:
        VoxflowError: it is away, is no database, or its address is wrong.
    """
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_engine(uri, poolclass=NullPool).connect():
            correct_places(uri)
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VoxflowError(f"the MLflow store {uri} can't be used: {reason}") from error


def move_store(former: Path, home: Path) -> bool:
    """Correct the places of files in the store, SQLite or a database server, after a repository was moved.

    Args:
        former: the folder that held ``mlartifacts`` or ``mlruns``.
        home: the folder that holds them now.

    Returns:
        Whether there were any such places.

    Raises:
        VoxflowError: the store can't be read or written.
    """
    from sqlalchemy.exc import SQLAlchemyError

    uri = get_tracking_uri()
    if is_server(uri) or (uri.startswith(SQLITE) and not sqlite_path(uri).is_file()):
        return False
    try:
        return bool(_rewrite_places(uri, home, lambda root, *_: root == former))
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise VoxflowError(f"the MLflow store {uri} can't be used: {error}") from error


def require_place(artifact_uri: str) -> None:
    """Check that a run's files belong to a folder of this machine; MLflow would make it, wherever that is.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    match = PLACE.fullmatch(artifact_uri)
    root = _read_root(match) if match else None
    if root and not root.is_dir():
        raise FileNotFoundError(
            f"the run's files belong in {root}, which is not there; if they were moved here, run "
            f"`python -m tasks.ops.restore --moved-from {root}`"
        )


def _rewrite_places(uri: str, home: Path, has_moved: Callable[[Path, str, str], bool]) -> list[Path]:
    """Rewrite, in one transaction, the places of which ``has_moved`` (root, folder, experiment) is true."""
    from sqlalchemy import NullPool, create_engine, inspect

    roots: dict[Path, None] = {}
    decisions: dict[tuple[Path, str, str], bool] = {}
    with lock_store(uri), create_engine(uri, poolclass=NullPool).begin() as connection:
        tables = inspect(connection)
        for table, column in COLUMNS:
            if not tables.has_table(table) or all(entry["name"] != column for entry in tables.get_columns(table)):
                continue
            for place in _list_places(connection, table, column, home):
                if (match := PLACE.fullmatch(place)) is None:
                    continue
                key = _read_root(match), match["folder"], _decode(match, match["rest"].partition("/")[0])
                if decisions.setdefault(key, has_moved(*key)):
                    roots[key[0]] = None
                    start = home.as_uri() if match["scheme"] else str(home)
                    _replace(connection, table, column, place, f"{start}/{match['folder']}/{match['rest']}")
    return list(roots)


def _list_places(connection: Connection, table: str, column: str, home: Path) -> list[str]:
    """The distinct places of a column that are not in the folder, in either form."""
    from sqlalchemy import text

    query = f"SELECT DISTINCT {column} FROM {table} WHERE ({column} LIKE '/%' OR {column} LIKE 'file:/%')"  # noqa: S608
    starts = [f"{start}/{folder}/" for start in (home, home.as_uri()) for folder in FOLDERS]
    values = {f"start{number}": start for number, start in enumerate(starts)}
    query += "".join(f" AND substr({column}, 1, {len(start)}) <> :{name}" for name, start in values.items())
    return [str(place) for (place,) in connection.execute(text(query), values)]


def _replace(connection: Connection, table: str, column: str, before: str, after: str) -> None:
    from sqlalchemy import text

    query = f"UPDATE {table} SET {column} = :after WHERE {column} = :before"  # noqa: S608
    connection.execute(text(query), {"before": before, "after": after})


def _read_root(match: re.Match[str]) -> Path:
    return Path(_decode(match, match["root"]))


def _decode(match: re.Match[str], text: str) -> str:
    """A part of a place as file systems have it."""
    decode: Any = unquote if match["scheme"] else str
    return str(decode(text))
