"""The flow retrain: the whole graph, then the decision on the champion as an artifact of the run."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.flows.conftest import Server, until

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE = "chestxray_demo"


def run(server: Server, repository: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "flows.retrain", *arguments]
    return subprocess.run(command, cwd=repository, env=server.environment, check=False).returncode


def test_the_decision_and_its_numbers_stand_on_the_runs_page(server: Server, repository: Path) -> None:
    assert run(server, repository, WORKSPACE) == 0
    flow_run = server.flow_runs(f"retrain {WORKSPACE}")[0]
    assert flow_run["state_type"] == "COMPLETED"
    data = server.artifacts(flow_run["id"])["table"]["data"]
    assert '"what": "p_value", "value": "0.4"' in data
    line = f"{WORKSPACE}: kept: not proven"
    until(lambda: line in server.log(flow_run["id"]), "the line in the log")
    assert "4 stages ran" in server.flow_runs(f"pipeline {WORKSPACE}")[0]["state"]["message"]


def test_a_graph_that_fails_decides_nothing(server: Server, repository: Path) -> None:
    assert run(server, repository, "bad") == 2
    (flow_run,) = server.flow_runs("retrain bad")
    assert flow_run["state_type"] == "FAILED"
    assert server.artifacts(flow_run["id"]) == {}
