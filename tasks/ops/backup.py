"""Push the data that DVC versions to a remote, and copy the databases: ``python -m tasks.ops.backup``.

``python -m tasks.ops.restore`` puts the copies back, also in another folder or on another machine.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_WRONG_INPUT
from voxflow.files import atomic_path, write_json
from voxflow.progress import say

# Of a backup: which copy belongs where, and the folder that the repository was in.
INDEX = "backup.json"
ARTIFACTS = "mlartifacts"
DATABASES = ("mlflow.db", ".prefect/prefect.db", ".voxflow/ledger/*.sqlite")
# What DVC 3 says where waiting and asking again does not help; its exit code is 255 whatever happened.
WRONG_SETTING = re.compile(
    r"config file error|no remote|not inside of a DVC repository|remote .* not found|doesn't exist"
    r"|is supported, but requires|Unable to find AWS credentials|Bucket .* does not exist|AccessDenied|Forbidden",
    re.IGNORECASE,
)


def push(remote: str | None) -> int:
    """Run ``dvc push``; its lines go on to stderr.

    Args:
        remote: its name in .dvc/config; None: the default one.

    Returns:
        2 for a setting that stays wrong (no such remote, no right to write), 1 for what may work later.
    """
    command = [sys.executable, "-m", "dvc", "push", *(["--remote", remote] if remote else [])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    for line in lines:
        say(line)
    if result.returncode == 0:
        return EXIT_OK
    reason = next((line for line in lines if line.startswith("ERROR")), f"DVC ended with {result.returncode}")
    say(f"backup: error: {reason.removeprefix('ERROR: ')}")
    return EXIT_WRONG_INPUT if WRONG_SETTING.search("\n".join(lines)) else EXIT_FAILURE


def copy_databases(target: Path) -> list[Path]:
    """Copy every SQLite file of the repository, whole also while it is written to, and the files of MLflow's runs.

    Databases of PostgreSQL have ``pg_dump`` for that.

    Args:
        target: the folder of the copies; a copy of the same name is replaced.
    """
    copies, index = [], {}
    for source in [path for pattern in DATABASES for path in sorted(Path().glob(pattern))]:
        copy = target / source.as_posix().lstrip(".").replace("/", "_")
        with (
            atomic_path(copy) as temporary,
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database,
            contextlib.closing(sqlite3.connect(temporary)) as copied_database,
        ):
            database.backup(copied_database)
        copies.append(copy)
        index[copy.name] = source.as_posix()
    _copy_artifacts(target / ARTIFACTS)
    write_json(target / INDEX, {"folder": str(Path.cwd()), "databases": index})
    return copies


def _copy_artifacts(target: Path) -> None:
    """Copy what is not there yet; MLflow writes most files once, and never changes a model."""
    for source in sorted(path for path in Path(ARTIFACTS).rglob("*") if path.is_file()):
        status, copy = source.stat(), target / source.relative_to(ARTIFACTS)
        if copy.is_file() and (copy.stat().st_size, copy.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns):
            continue
        with atomic_path(copy) as temporary:
            shutil.copy2(source, temporary)


def main() -> int:
    """Back up; the databases first, since they are small."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.backup", description=__doc__)
    parser.add_argument("--remote", help="a DVC remote (default: the repository's default)")
    parser.add_argument("--databases", type=Path, help="folder for copies of the SQLite files and of MLflow's files")
    arguments = parser.parse_args()
    if arguments.databases:
        try:
            copies = copy_databases(arguments.databases)
        except (OSError, sqlite3.Error) as error:
            say(f"backup: error: {error}")
            return EXIT_FAILURE
        say(f"backup: {len(copies)} databases → {arguments.databases}")
    code = push(arguments.remote)
    if code == EXIT_OK:
        say(f"backup: pushed to {arguments.remote or 'the default remote'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
