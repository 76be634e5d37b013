"""One Prefect server for the tests of flows, on a free port of this machine, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.ops import leash
from tests.flows.repository import environment, make_repository
from tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFECT = str(Path(sys.executable).with_name("prefect"))
# A machine with much else to do needs more.
PATIENCE_S = float(os.environ.get("VOXFLOW_TEST_PATIENCE_S", "180"))


@dataclass(frozen=True)
class Server:
    """A Prefect server and what to ask it."""

    address: str
    environment: dict[str, str]

    def post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310
            f"{self.address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.load(response)

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as response:  # noqa: S310
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stage_runs(self, flow_run: str) -> dict[str, Any]:
        """The task runs of a flow run by stage."""
        runs = self.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
        return {run["name"]: run for run in runs}

    def artifacts(self, flow_run: str) -> dict[str, Any]:
        artifacts = self.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run]}})
        return {artifact["type"]: artifact for artifact in artifacts}

    def log(self, flow_run: str) -> str:
        lines = self.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run]}}, limit=200)
        return "\n".join(line["message"] for line in lines)

    def flow_runs(self, name: str) -> list[Any]:
        runs: list[Any] = self.post("/flow_runs/filter", flow_runs={"name": {"any_": [name]}}, sort="START_TIME_DESC")
        return runs


def until(condition: Any, event: str) -> Any:
    """Ask again until there is an answer: the server writes states and logs a moment after they happen."""
    end = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < end, f"{event} did not happen within {PATIENCE_S:.0f} s"
        time.sleep(0.3)
    return answer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    port = reserve_port()
    address = f"http://127.0.0.1:{port}/api"
    variables = environment() | {"PREFECT_HOME": str(home), "PREFECT_API_URL": address}
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log, leash.start(command, environment=variables, output=log) as process:
        prefect_server = Server(address, variables)
        until(lambda: prefect_server.healthy() or process.poll() is not None, "the start of the server")
        assert process.poll() is None, (home / "server.log").read_text()
        yield prefect_server
        leash.let_go(process)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("flows") / "repository")


def prefect(server: Server, repository: Path, *arguments: str) -> str:
    """Run one command of Prefect in the repository."""
    result = subprocess.run(
        [PREFECT, "--no-prompt", *arguments],
        cwd=repository,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
