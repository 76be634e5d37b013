"""``make serve`` on a real PostgreSQL server: both services keep their state there."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import postgresql
from tests.flows.repository import environment, make_repository
from tests.ports import reserve_port
from tests.tasks.test_serve import status

if TYPE_CHECKING:
    from pathlib import Path

RECORD = """
from voxflow.tracking import begin_run
with begin_run("spleen", params={"a": 1}) as tracker:
    tracker.log_metrics({"loss": 0.5}, step=1)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_services_and_a_run_live_in_postgresql(tmp_path: Path) -> None:
    with postgresql.start_server() as database:
        prefect, mlflow = reserve_port(), reserve_port()
        variables = environment() | {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_DATABASE_CONNECTION_URL": database.url("prefect", "asyncpg"),
            "MLFLOW_TRACKING_URI": database.url("mlflow", "psycopg2"),
        }
        repository = make_repository(tmp_path / "repository")
        command = [
            sys.executable,
            "-m",
            "tasks.ops.serve",
            "--prefect-port",
            str(prefect),
            "--mlflow-port",
            str(mlflow),
        ]
        with subprocess.Popen(command, cwd=repository, env=variables, stderr=subprocess.PIPE, text=True) as serve:
            assert serve.stderr is not None
            assert any(line.startswith("Ctrl-C") for line in iter(serve.stderr.readline, ""))
            assert status(f"http://127.0.0.1:{prefect}/api/health") == 200
            assert status(f"http://127.0.0.1:{mlflow}/health") == 200
            subprocess.run([sys.executable, "-c", RECORD], cwd=repository, env=variables, check=True)
            serve.send_signal(signal.SIGINT)
            assert serve.wait(120) == 0
        assert rows(database, "mlflow", "SELECT key, value FROM metrics") == [("loss", 0.5)]
        assert rows(database, "prefect", "SELECT name FROM work_pool WHERE name = 'voxflow'") == [("voxflow",)]
    assert not (repository / "mlflow.db").exists()
    assert not list((tmp_path / "prefect").glob("*.db"))


def rows(database: postgresql.PostgreSql, name: str, query: str) -> list[tuple[object, ...]]:
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=database.port, user=postgresql.OWNER, dbname=name)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            records: list[tuple[object, ...]] = cursor.fetchall()
            return records
    finally:
        connection.close()
