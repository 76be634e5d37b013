"""``make serve``: both pages answer, and nothing is left after Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest
from sqlalchemy import NullPool, create_engine, inspect

from tests.flows.repository import environment, make_repository
from tests.ports import reserve_port
from tests.postgresql import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def status(address: str) -> int:
    with urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310
        return int(response.status)


@pytest.fixture
def command(tmp_path: Path) -> dict[str, object]:
    variables = environment() | {"PREFECT_HOME": str(tmp_path / "prefect")}
    return {"cwd": make_repository(tmp_path / "repository"), "env": variables, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture
def nothing_left() -> Iterator[list[psutil.Process]]:
    started: list[psutil.Process] = []
    yield started
    _, alive = psutil.wait_procs(started, timeout=60)
    for process in alive:
        process.kill()
    assert alive == []


def test_pages_answer_until_ctrl_c_ends_everything(
    command: dict[str, object], nothing_left: list[psutil.Process]
) -> None:
    prefect, mlflow = reserve_port(), reserve_port()
    ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    with subprocess.Popen([sys.executable, "-m", "tasks.ops.serve", *ports], **command) as serve:  # type: ignore[call-overload]
        lines = iter(serve.stderr.readline, "")
        assert any(line.startswith("Ctrl-C") for line in lines), "it ended before it was ready"
        nothing_left.extend(psutil.Process(serve.pid).children(recursive=True))
        assert len(nothing_left) > 3
        assert status(f"http://127.0.0.1:{prefect}/api/health") == 200
        assert status(f"http://127.0.0.1:{mlflow}/health") == 200
        serve.send_signal(signal.SIGINT)
        assert "serve: ended\n" in lines
        assert serve.wait(60) == 0


@pytest.mark.slow
def test_the_password_of_a_database_is_on_no_command_line_and_in_no_line(
    command: dict[str, object], nothing_left: list[psutil.Process]
) -> None:
    secret = "very-" + "s3cret"
    ports = ["--prefect-port", str(reserve_port()), "--mlflow-port", str(reserve_port())]
    with start_server() as database:
        store = database.url("mlflow", "psycopg2").replace("postgres@", f"postgres:{secret}@")
        command["env"] = {**command["env"], "MLFLOW_TRACKING_URI": store}  # type: ignore[dict-item]
        command["stderr"] = subprocess.STDOUT
        with subprocess.Popen(
            [sys.executable, "-m", "tasks.ops.serve", *ports],
            stdout=subprocess.PIPE,
            **command,  # type: ignore[call-overload]
        ) as serve:
            lines = []
            for line in iter(serve.stdout.readline, ""):
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            processes = [psutil.Process(serve.pid), *psutil.Process(serve.pid).children(recursive=True)]
            nothing_left.extend(processes[1:])
            assert len(processes) > 4
            assert [process for process in processes if secret in " ".join(process.cmdline())] == []
            tables = inspect(create_engine(store, poolclass=NullPool)).get_table_names()
            serve.send_signal(signal.SIGINT)
            lines += serve.stdout.readlines()
            assert serve.wait(60) == 0
    assert "experiments" in tables  # so MLflow has the address that is on no command line
    assert [line for line in lines if secret in line] == []


def test_a_signal_before_it_is_ready_ends_everything_too(
    command: dict[str, object], nothing_left: list[psutil.Process]
) -> None:
    ports = ["--prefect-port", str(reserve_port()), "--mlflow-port", str(reserve_port())]
    with subprocess.Popen([sys.executable, "-m", "tasks.ops.serve", *ports], **command) as serve:  # type: ignore[call-overload]
        main = psutil.Process(serve.pid)
        while len(main.children(recursive=True)) < 2 and serve.poll() is None:
            time.sleep(0.05)
        nothing_left.extend(main.children(recursive=True))
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(60) == 0


def test_a_taken_port_is_said_in_one_line(command: dict[str, object]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        result = subprocess.run(  # type: ignore[call-overload]
            [
                sys.executable,
                "-m",
                "tasks.ops.serve",
                "--mlflow-port",
                str(port),
                "--prefect-port",
                str(reserve_port()),
            ],
            **command,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr.startswith(f"serve: error: port {port} can't be used: Address already in use")
    assert "choose another: MLFLOW_PORT=" in result.stderr
    assert result.stderr.count("\n") == 1


def test_everything_listens_on_loopback_only() -> None:
    from tasks.ops.serve import list_services

    for service in list_services(4200, 5000, "sqlite:///mlflow.db"):
        assert "--host" not in service.command or service.command[service.command.index("--host") + 1] == "127.0.0.1"


def test_runs_on_a_server_need_no_second_one() -> None:
    from tasks.ops.serve import list_services

    assert [service.name for service in list_services(1, 2, "https://mlflow.example")] == [
        "Prefect server",
        "Prefect worker",
    ]
