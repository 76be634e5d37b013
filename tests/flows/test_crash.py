"""Server, worker and a run that holds the only slot of its deployment are killed at once: what is left, what comes."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tasks.ops.serve import AT_WORK
from tests.flows.conftest import PATIENCE_S, prefect, until
from tests.flows.department import Department
from tests.flows.repository import environment, make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.flows.conftest import Server

WORKSPACE = "slow"
GRAPH = """
stages:
  work:
    foreach: [slow]
    do:
      cmd: "[ -e begun ] || { touch begun; sleep 600; }; touch done"
      outs: ["done"]
"""
DEPLOYMENT = {
    "name": "nightly",
    "entrypoint": "flows/pipeline.py:pipeline",
    "work_pool": {"name": "voxflow"},
    "parameters": {"workspace": WORKSPACE},
    "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
}


@pytest.fixture
def department(tmp_path: Path) -> Iterator[Department]:
    repository = make_repository(tmp_path / "repository")
    (repository / "dvc.yaml").write_text(GRAPH)
    (repository / "prefect.yaml").write_text(yaml.safe_dump({"name": "voxflow", "deployments": [DEPLOYMENT]}))
    made = Department(repository, environment() | {"PREFECT_HOME": str(tmp_path / "prefect")})
    yield made
    made.stop()


def run(server: Server, repository: Path) -> None:
    prefect(server, repository, "deployment", "run", "pipeline/nightly")


def of_state(server: Server, name: str) -> list[Any]:
    runs: list[Any] = server.post("/flow_runs/filter", flow_runs={"state": {"name": {"any_": [name]}}})
    return runs


def all_gone(repository: Path) -> bool:
    """Whether no process works in the repository any more."""
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(repository) and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.Error:
            continue
    return True


def let_leases_end(folder: Path) -> None:
    """What five minutes do: they are too long for a test."""
    now = datetime.now(UTC).isoformat()
    for path in folder.glob("*.json"):
        lease = json.loads(path.read_text())
        path.write_text(json.dumps(lease | {"expiration": now} if "expiration" in lease else dict.fromkeys(lease, now)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_is_taken_up_again_and_lets_go_of_its_slot(department: Department) -> None:
    server, repository = department.server, department.repository
    department.start()
    prefect(server, repository, "deploy", "--all")
    run(server, repository)
    run(server, repository)
    until((repository / "begun").is_file, "the stage's beginning")
    until(lambda: of_state(server, "AwaitingConcurrencySlot"), "the other run's wait for the slot")
    (orphan,) = of_state(server, "Running")
    kill_all(department)
    assert not (repository / "done").exists()

    department.start()
    until(lambda: len(of_state(server, "Completed")) == 2, "the end of both runs")
    runs = {entry["id"]: entry["run_count"] for entry in of_state(server, "Completed")}
    assert runs.pop(orphan["id"]) == 2
    assert list(runs.values()) == [1]
    assert (repository / "done").is_file()


def kill_all(department: Department) -> None:
    assert department.process is not None
    department.process.kill()
    department.process.wait(PATIENCE_S)
    until(lambda: all_gone(department.repository), "the end of all that was started")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_lost_for_good_keeps_its_slot_as_long_as_its_lease(department: Department) -> None:
    server, repository = department.server, department.repository
    department.start()
    prefect(server, repository, "deploy", "--all")
    run(server, repository)
    until((repository / "begun").is_file, "the stage's beginning")
    kill_all(department)
    shutil.rmtree(repository / AT_WORK)

    department.start()
    (orphan,) = of_state(server, "Running")
    run(server, repository)
    until(lambda: of_state(server, "AwaitingConcurrencySlot"), "the wait for the slot")
    let_leases_end(repository.parent / "prefect/concurrency_leases")
    (next_run,) = until(lambda: of_state(server, "Completed"), "the next run")
    assert next_run["id"] != orphan["id"]
    assert [entry["id"] for entry in of_state(server, "Running")] == [orphan["id"]]
    assert (repository / "done").is_file()
