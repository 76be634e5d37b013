"""Run Prefect, a worker and the MLflow pages on this machine only, until Ctrl-C: ``python -m tasks.ops.serve``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.ops import leash
from tasks.ops.restore import correct_deployments
from voxflow.errors import EXIT_FAILURE, EXIT_OK, InputError, VoxflowError
from voxflow.progress import say
from voxflow.tracking import (
    PAGES_VARIABLE,
    TRAININGS_QUERY,
    check_store,
    is_server,
    remove_pages_file,
    write_pages_file,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

HOST = "127.0.0.1"
WORK_POOL, WORKER = "voxflow", "Prefect worker"
# Of each run of a deployment, the lock that its process holds; see flows/recovery.py.
AT_WORK = Path(".voxflow/at_work")
# The first start makes two databases, which takes a busy machine minutes; a service that ends is noticed at once.
START_TIMEOUT_S = 900.0
POLL_S = 0.2
DEFAULT_STORE = "sqlite:///mlflow.db"


@dataclass(frozen=True)
class ServerProgram:
    """A program that is kept running.

    Attributes:
        name: for messages.
        command: program and arguments.
        health: an address that answers 200 when the service is ready; None: there is nothing to ask.
        variables: of the environment, for this program alone.
    """

    name: str
    command: tuple[str, ...]
    health: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def list_services(prefect_port: int, mlflow_port: int, store: str) -> tuple[ServerProgram, ...]:
    """List what is started, in order.

    Args:
        prefect_port: of the Prefect server.
        mlflow_port: of MLflow's pages.
        store: where the runs are; when that is a server, no other MLflow server is started.
    """
    programs = Path(sys.executable).parent
    prefect, mlflow = str(programs / "prefect"), str(programs / "mlflow")
    server = (prefect, "server", "start", "--host", HOST, "--port", str(prefect_port))
    worker = (prefect, "--no-prompt", "worker", "start", "--pool", WORK_POOL, "--type", "process")
    # The store is in the environment: everybody on this machine can read a command line, and it may hold a password.
    pages = (mlflow, "server", "--host", HOST, "--port", str(mlflow_port))
    started = [
        ServerProgram("Prefect server", server, f"http://{HOST}:{prefect_port}/api/health"),
        ServerProgram(
            "MLflow",
            (*pages, "--workers", "1", "--uvicorn-opts", "--log-level warning"),
            f"http://{HOST}:{mlflow_port}/health",
            {"MLFLOW_BACKEND_STORE_URI": store},
        ),
        ServerProgram(WORKER, worker),
    ]
    return tuple(service for service in started if service.name != "MLflow" or not is_server(store))


def make_environment(prefect_port: int, mlflow_port: int) -> dict[str, str]:
    """Programs of this interpreter first, Prefect's files in this folder, both servers where they are started."""
    programs = str(Path(sys.executable).parent)
    has_own_pages = not is_server(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_STORE))
    return {
        # A person may say at which other address a browser finds the pages.
        **({PAGES_VARIABLE: f"http://{HOST}:{mlflow_port}"} if has_own_pages else {}),
        "PREFECT_HOME": str(Path(".prefect").resolve()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PREFECT_API_URL": f"http://{HOST}:{prefect_port}/api",
    }


def serve(prefect_port: int, mlflow_port: int) -> int:
    """Start everything, say where it is, and end all of it when a signal comes or one of them ends.

    Raises:
        InputError: a port is taken.
        VoxflowError: the store can't be used; a service ended by itself or did not answer in time.
    """
    store = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_STORE)
    services = list_services(prefect_port, mlflow_port, store)
    _check_free(prefect_port, "PREFECT_PORT")
    if not is_server(store):
        _check_free(mlflow_port, "MLFLOW_PORT")
        check_store(store)
    variables = make_environment(prefect_port, mlflow_port)
    correct_deployments(Path(variables["PREFECT_HOME"]))
    with contextlib.ExitStack() as running:
        started: dict[str, subprocess.Popen[str]] = {}
        for service in services:
            if service.name == WORKER:
                # The servers come up side by side, and a worker needs them both.
                for server, process in zip(services, started.values(), strict=False):
                    _wait_until_healthy(server, process)
                running.enter_context(_recover(variables))
            started[service.name] = leash.start(service.command, environment=variables | dict(service.variables))
            running.enter_context(_end_on_exit(started[service.name]))
            if service.name == "MLflow":
                # Flows and workers of other shells link to these pages, too.
                write_pages_file(variables[PAGES_VARIABLE])
                running.callback(remove_pages_file)
        say(
            f"Prefect  http://{HOST}:{prefect_port}  (elsewhere: export PREFECT_API_URL={variables['PREFECT_API_URL']})"
        )
        pages = store.rstrip("/") if is_server(store) else f"http://{HOST}:{mlflow_port}"
        say(f"MLflow   {pages}/#/experiments?{TRAININGS_QUERY}")
        say("         in an experiment, choose Model training at the top left once; the browser keeps that")
        say("Ctrl-C ends all of it")
        _watch(started)
    return EXIT_OK


@contextlib.contextmanager
def _recover(variables: dict[str, str]) -> Iterator[None]:
    """Before a worker is there: let the server take up again what one that was killed has left."""
    if not any(AT_WORK.glob("*.lock")):
        yield
        return
    process = leash.start((sys.executable, "-m", "flows.recovery"), environment=variables)
    with _end_on_exit(process):
        if process.wait():
            say("warning: runs that a killed worker left stay as they are; the lines above say why")
        yield


@contextlib.contextmanager
def _end_on_exit(process: subprocess.Popen[str]) -> Iterator[None]:
    """Let go of the process when the block is left, and wait until it is gone."""
    try:
        yield
    finally:
        leash.let_go(process)
        process.wait()


def _check_free(port: int, variable: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port that was just left may be taken again, as the servers themselves do.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} can't be used: {error.strerror}; choose another: {variable}=...") from error


def _wait_until_healthy(service: ServerProgram, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while service.health is not None and not _answers(service.health):
        if process.poll() is not None:
            raise VoxflowError(f"{service.name} ended with exit code {process.returncode}; its lines above say why")
        if time.monotonic() > until:
            raise VoxflowError(f"{service.name} did not answer at {service.health} within {START_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)


def _answers(address: str) -> bool:
    # No proxy: the address is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _watch(started: dict[str, subprocess.Popen[str]]) -> None:
    while True:
        for name, process in started.items():
            if process.poll() is not None:
                raise VoxflowError(f"{name} ended with exit code {process.returncode}; the others were ended too")
        time.sleep(POLL_S)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Serve until Ctrl-C or SIGTERM, which is how it is meant to end."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ops.serve", description=__doc__)
    ports = (("prefect", os.environ.get("PREFECT_PORT", "4200")), ("mlflow", os.environ.get("MLFLOW_PORT", "5000")))
    for name, default in ports:
        parser.add_argument(
            f"--{name}-port", type=int, default=default, help=f"default: {name.upper()}_PORT or %(default)s"
        )
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        return serve(arguments.prefect_port, arguments.mlflow_port)
    except KeyboardInterrupt:
        say("serve: ended")
        return EXIT_OK
    except (VoxflowError, OSError, sqlite3.Error) as error:
        say(f"serve: error: {error}")
        return error.exit_code if isinstance(error, VoxflowError) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
