"""The flow under a real Prefect server: order, logs, retries, artifacts, endings."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.flows.conftest import Server, prefect, until
from tests.flows.repository import ROOT
from tests.tasks.test_leash import assert_gone, wait_for_pids

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE = "spleen_demo"
ALL_STAGES = {f"{stage}@{WORKSPACE}" for stage in ("sample", "left", "right", "report")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.pipeline", *arguments]


def run(server: Server, repository: Path, *arguments: str) -> int:
    return subprocess.run(command(*arguments), cwd=repository, env=server.environment, check=False).returncode


def test_stages_run_and_one_that_was_killed_is_tried_again(server: Server, repository: Path) -> None:
    assert run(server, repository, WORKSPACE, "--retry-delay", "0.1") == 0
    flow_run, *_ = server.flow_runs(f"pipeline {WORKSPACE}")  # other tests may have run it before
    assert flow_run["state_type"] == "COMPLETED"
    runs = until(lambda: if_completed(server.stage_runs(flow_run["id"])), "the stages' completion")
    assert {name: stage_run["run_count"] for name, stage_run in runs.items()} == dict.fromkeys(ALL_STAGES, 1) | {
        f"right@{WORKSPACE}": 2
    }
    assert runs[f"right@{WORKSPACE}"]["start_time"] < runs[f"left@{WORKSPACE}"]["end_time"]
    assert runs[f"report@{WORKSPACE}"]["start_time"] >= runs[f"left@{WORKSPACE}"]["end_time"]
    log = until(lambda: "4 stages ran" in server.log(flow_run["id"]) and server.log(flow_run["id"]), "the log")
    assert f"the left stage of {WORKSPACE}" in log
    assert f"right@{WORKSPACE}: killed by signal 9" in log
    artifacts = server.artifacts(flow_run["id"])
    report = repository / "mmars" / WORKSPACE / "eval/report.html"
    assert report.as_uri() in artifacts["markdown"]["data"]
    assert '"result": "ran"' in artifacts["table"]["data"]


def if_completed(runs: dict[str, Any]) -> dict[str, Any]:
    return runs if len(runs) == 4 and all(stage_run["state_type"] == "COMPLETED" for stage_run in runs.values()) else {}


def test_wrong_input_is_not_tried_again_and_what_follows_does_not_run(server: Server, repository: Path) -> None:
    assert run(server, repository, "bad") == 2
    (flow_run,) = server.flow_runs("pipeline bad")
    assert flow_run["state"]["message"] == "wrong bad: error: no such thing"
    runs = until(lambda: server.stage_runs(flow_run["id"]), "the stages' states")
    assert runs["wrong@bad"]["run_count"] == 1
    assert '"not run"' in server.artifacts(flow_run["id"])["table"]["data"]


def test_unknown_workspace_is_wrong_input(server: Server, repository: Path) -> None:
    assert run(server, repository, "nosuch") == 2
    (flow_run,) = server.flow_runs("pipeline nosuch")
    assert "no stage for workspace 'nosuch'; known: bad" in flow_run["state"]["message"]


def test_stale_digests_of_the_code_are_wrong_input(server: Server, repository: Path) -> None:
    graph = repository / "dvc.yaml"
    before = graph.read_text()
    graph.write_text(before + "# deps: tasks/digests/train.txt\n")
    (repository / "tasks/digests/train.txt").write_text("of older code")
    (repository / "src").symlink_to(ROOT / "src")
    try:
        assert run(server, repository, WORKSPACE) == 2
    finally:
        graph.write_text(before)
        (repository / "src").unlink()
    flow_run, *_ = server.flow_runs(f"pipeline {WORKSPACE}")
    assert flow_run["state"]["message"].startswith("tasks/digests: not the code's digests any more (train); run: ")


def test_a_terminated_flow_takes_its_stage_with_it(server: Server, repository: Path) -> None:
    with subprocess.Popen(command("endless"), cwd=repository, env=server.environment) as flow:
        pids = wait_for_pids(repository / "slow.pid")
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(60) != 0
    assert_gone(pids)


def test_the_scheduled_deployment_is_registered_and_triggered(server: Server, repository: Path) -> None:
    from tasks.ops import leash

    worker = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "worker",
        "start",
        "--pool",
        "voxflow",
        "--type",
        "process",
    ]
    log_path = repository.parent / "worker.log"
    with (
        log_path.open("w") as log,
        leash.start(worker, cwd=repository, environment=server.environment, output=log) as process,
    ):
        until(lambda: server.post("/work_pools/filter"), "the worker's pool")
        prefect(server, repository, "deploy", "--all")
        deployments = {deployment["name"]: deployment for deployment in server.post("/deployments/filter")}
        on = {"nightly-spleen", "nightly-chestxray", "retrain-spleen", "monitor-spleen"}
        assert on | {"ingest-spleen", "infer-spleen", "backup"} <= set(deployments)
        assert all(deployments[name]["schedules"][0]["active"] for name in on)
        nightly = {"id": {"any_": [deployments["nightly-spleen"]["id"]]}}
        due = {"state": {"type": {"any_": ["SCHEDULED"]}}}
        until(lambda: server.post("/flow_runs/filter", deployments=nightly, flow_runs=due), "the scheduler's runs")
        prefect(server, repository, "deployment", "run", "pipeline/nightly-chestxray")
        mine = {"id": {"any_": [deployments["nightly-chestxray"]["id"]]}}
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
        runs = until(lambda: server.post("/flow_runs/filter", deployments=mine, flow_runs=ended), "the triggered run")
        at_work = repository / ".voxflow/at_work"
        until(
            lambda: at_work.is_dir() and not list(at_work.iterdir()), "the removal of the lock of a run that has ended"
        )
        leash.let_go(process)
    assert runs[0]["state_type"] == "COMPLETED", log_path.read_text()
    assert (repository / "mmars/chestxray_demo/eval/report.html").read_text() == "two\ntwo\n"
