"""Put a backup back, here or elsewhere: ``python -m tasks.ops.restore FOLDER``, before anything is started.

A repository whose database is a server, and whose folder has moved, tells it so:
``python -m tasks.ops.restore --moved-from FORMER_FOLDER``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ops.backup import ARTIFACTS, INDEX
from voxflow.errors import EXIT_OK, InputError, VoxflowError
from voxflow.files import atomic_path, read_json_or_none
from voxflow.progress import say
from voxflow.tracking import move_store

if TYPE_CHECKING:
    from collections.abc import Mapping

# The folder in which deployments were registered last; `make serve` writes it beside Prefect's database.
HOME_NOTE = "voxflow_home"
DVC_SETTINGS = Path(".dvc/config.local")


def restore(backup: Path, *, is_forced: bool) -> int:
    """Put the databases and MLflow's files of a backup where they were in their repository.

    Args:
        backup: the folder that ``tasks.ops.backup --databases`` wrote.
        is_forced: replace what is here.

    Returns:
        How many databases there were.

    Raises:
        InputError: the folder is no backup, lacks a file, or something is here that would be replaced.
    """
    index = read_json_or_none(backup / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("databases"), dict):
        raise InputError(
            f"holds no {INDEX}, so it is no backup of `python -m tasks.ops.backup --databases`", path=backup
        )
    places = {backup / copy: _require_inside(place, backup) for copy, place in index["databases"].items()}
    if missing := [copy.name for copy in places if not copy.is_file()]:
        raise InputError(f"lacks {', '.join(missing)}", path=backup)
    occupied = [str(place) for place in (*places.values(), Path(ARTIFACTS)) if place.exists()]
    if occupied and not is_forced:
        raise InputError(f"{', '.join(occupied)} would be replaced; --force replaces them")
    if (backup / ARTIFACTS).is_dir():
        shutil.copytree(backup / ARTIFACTS, ARTIFACTS, dirs_exist_ok=True)
    for copy, place in places.items():
        for leftover in (f"{place}-wal", f"{place}-shm", f"{place}-journal"):
            Path(leftover).unlink(missing_ok=True)
        with atomic_path(place) as temporary:
            shutil.copyfile(copy, temporary)
    former = Path(str(index.get("folder") or ""))
    if former.is_absolute():
        move(former)
    return len(places)


def move(former: Path) -> None:
    """Let MLflow's store, Prefect's deployments and DVC know that the repository was moved here.

    Raises:
        VoxflowError: the store of MLflow can't be used.
    """
    home = Path.cwd()
    if former == home:
        return
    if move_store(former, home):
        say(f"MLflow: files that were in {former} are now looked for, and written, in {home}")
    correct_deployments(Path(os.environ.get("PREFECT_HOME") or ".prefect"), former)
    for setting in _list_dvc_settings(former):
        say(f"warning: {DVC_SETTINGS} names the former folder: {setting}; correct it with `dvc config --local`")


def correct_deployments(folder: Path, former: Path | None = None) -> None:
    """Let deployments that were registered in the folder where the repository was run here, and note where that is.

    Args:
        folder: Prefect's, with its SQLite database; a database server's deployments are registered anew.
        former: the former folder; None: as it was noted the last time.

    Raises:
        sqlite3.Error: the database can't be written.
    """
    home, note, database = Path.cwd(), folder / HOME_NOTE, folder / "prefect.db"
    if former is None and note.is_file():
        former = Path(note.read_text(encoding="utf-8").strip())
    if database.is_file() and former is not None and former != home and not _is_same_folder(former, home):
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            count = sum(_replace(connection, former, home, deployment) for deployment in _list_deployments(connection))
        if count:
            say(f"Prefect: {count} deployments of {former} now run in {home}")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{home}\n", encoding="utf-8")


def _list_deployments(connection: sqlite3.Connection) -> list[Mapping[str, str | None]]:
    columns = {str(row[1]) for row in connection.execute("PRAGMA table_info(deployment)")}
    if not {"id", "path", "pull_steps"} <= columns:
        return []
    rows = connection.execute("SELECT id, path, pull_steps FROM deployment")
    return [dict(zip(("id", "path", "pull_steps"), row, strict=True)) for row in rows]


def _replace(connection: sqlite3.Connection, former: Path, home: Path, deployment: Mapping[str, str | None]) -> bool:
    steps = json.loads(deployment["pull_steps"] or "null")
    path = _move_text(deployment["path"], former, home)
    moved = _move_text(steps, former, home)
    if (path, moved) == (deployment["path"], steps):
        return False
    values = (path, None if moved is None else json.dumps(moved), deployment["id"])
    connection.execute("UPDATE deployment SET path = ?, pull_steps = ? WHERE id = ?", values)
    return True


def _move_text(value: object, former: Path, home: Path) -> object:
    """A value of JSON in which every path at or below a folder lies below another."""
    if isinstance(value, dict):
        return {key: _move_text(inner, former, home) for key, inner in value.items()}
    if isinstance(value, list):
        return [_move_text(inner, former, home) for inner in value]
    if isinstance(value, str) and value.startswith("/") and Path(value).is_relative_to(former):
        return str(home / Path(value).relative_to(former))
    return value


def _list_dvc_settings(former: Path) -> list[str]:
    """Lines of DVC's settings of this clone that name a folder."""
    if not DVC_SETTINGS.is_file():
        return []
    lines = DVC_SETTINGS.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if str(former) in line]


def _is_same_folder(one: Path, other: Path) -> bool:
    return one.is_dir() and one.samefile(other)


def _require_inside(place: object, backup: Path) -> Path:
    path = Path(str(place))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"names {path}, which is outside of the repository", path=backup / INDEX)
    return path


def main() -> int:
    """Restore, or move."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.restore", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("backup", type=Path, nargs="?", help="the folder that tasks.ops.backup --databases wrote")
    choice.add_argument("--moved-from", type=Path, metavar="FOLDER", help="the folder in which the repository was")
    parser.add_argument("--force", action="store_true", help="replace databases that are here")
    arguments = parser.parse_args()
    try:
        if arguments.moved_from:
            move(arguments.moved_from.absolute())
        else:
            count = restore(arguments.backup, is_forced=arguments.force)
            say(f"restore: {count} databases ← {arguments.backup}")
    except (VoxflowError, OSError, sqlite3.Error) as error:
        say(f"restore: error: {error}")
        return error.exit_code if isinstance(error, VoxflowError) else 1
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
