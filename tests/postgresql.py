"""A real PostgreSQL server on a free port of this machine; a skip with its reason where it is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = "postgres"
PATIENCE_S = 120.0


@dataclass(frozen=True)
class PostgreSql:
    """A server with the databases ``prefect`` and ``mlflow``."""

    port: int

    def url(self, database: str, driver: str) -> str:
        """For SQLAlchemy, such as ``postgresql+asyncpg://...``."""
        return f"postgresql+{driver}://{OWNER}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def start_server() -> Iterator[PostgreSql]:
    programs = _program_folder()
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (pip install 'voxflow[postgresql]')")
    folder = Path(tempfile.mkdtemp(prefix="voxflow-postgresql-"))
    # The server refuses to run as root.
    as_owner = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
    if as_owner:
        shutil.chown(folder, OWNER, OWNER)
    port = reserve_port()
    data, log = folder / "data", folder / "log"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control = [*as_owner, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", str(int(PATIENCE_S))]
    initialise = [*as_owner, str(programs / "initdb"), "-D", str(data), "-U", OWNER, "-A", "trust", "-E", "UTF8"]
    try:
        _run_quietly(initialise, folder)
        _run_quietly([*control, "-l", str(log), "-o", options, "start"], folder)
        for database in ("prefect", "mlflow"):
            make = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", OWNER, database]
            _run_quietly(make, folder)
        yield PostgreSql(port)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, cwd=folder, stdout=subprocess.DEVNULL)
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _run_quietly(command: list[str], folder: Path) -> None:
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)


def _program_folder() -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not candidates and on_path is None:
        pytest.skip("PostgreSQL is missing: make test-services installs it")
    return candidates[-1].parent if candidates else Path(str(on_path)).parent
