"""One workspace on two machines: each runs its own stages in its own clone, and DVC carries the data."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tasks.ops import leash
from tasks.ops.graph import read_graph
from tests.flows.conftest import Server, prefect, until
from tests.flows.repository import ROOT
from tests.tasks.test_carry import AUTHOR, SPLEEN, Clone, make_clones

if TYPE_CHECKING:
    from pathlib import Path

POOLS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/pools.yaml").read_text())
PARTS = {"prepare-spleen": ["sample", "left"], "train-spleen": ["right", "report"]}


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Clone, Clone]:
    cpu, gpu = make_clones(tmp_path)
    # Its first run is killed otherwise, which is another test's business.
    (gpu.root / f"{SPLEEN}-killed").touch()
    return cpu, gpu


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # pygtrie, which DVC uses
def test_the_two_deployments_run_every_stage_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stages = [stage for deployment in POOLS["deployments"] for stage in deployment["parameters"]["stages"]]
    assert sorted(stages) == sorted(node.name for node in read_graph(SPLEEN))


def test_the_second_machine_goes_on_where_the_first_ended(server: Server, clones: tuple[Clone, Clone]) -> None:
    for clone, stages in zip(clones, PARTS.values(), strict=True):
        command = [sys.executable, "-m", "flows.pipeline", SPLEEN, "--stages", ",".join(stages), "--carry"]
        result = subprocess.run(command, cwd=clone.root, env=server.environment | AUTHOR, check=False)
        assert result.returncode == 0
    cpu, gpu = clones
    assert (gpu.root / "mmars" / SPLEEN / "eval/report.html").read_text() == "one\none\n"
    assert gpu.recorded == {f"{stage}@{SPLEEN}" for stages in PARTS.values() for stage in stages}
    assert not (cpu.root / f"{SPLEEN}-right").exists()
    second, first = server.flow_runs(f"pipeline {SPLEEN}")[:2]
    trained_here = {f"{stage}@{SPLEEN}" for stage in PARTS["train-spleen"]}
    carried = {f"pull for {SPLEEN}", f"push of {SPLEEN}"}
    assert until(lambda: set(server.stage_runs(second["id"])) == trained_here | carried, "the second run's tasks")
    assert f"pulled left@{SPLEEN}, sample@{SPLEEN}" in until(lambda: server.log(second["id"]), "the second run's log")
    assert first["state_type"] == second["state_type"] == "COMPLETED"


@pytest.mark.slow
def test_a_worker_a_pool_and_the_first_run_starts_the_second(
    server: Server, clones: tuple[Clone, Clone], tmp_path: Path
) -> None:
    cpu, gpu = clones
    for deployment in POOLS["deployments"]:
        deployment["parameters"] |= {"stages": PARTS[deployment["name"]]}
        deployment["schedules"] = []
    (cpu.root / "pools.yaml").write_text(yaml.safe_dump(POOLS))
    with contextlib.ExitStack() as stack:
        for name, clone in (("cpu", cpu), ("gpu", gpu)):
            command = [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", name]
            variables = server.environment | AUTHOR | {"VOXFLOW_REPOSITORY": str(clone.root)}
            log = stack.enter_context((tmp_path / f"{name}.log").open("w"))
            worker = leash.start([*command, "--type", "process"], cwd=tmp_path, environment=variables, output=log)
            stack.callback(leash.let_go, stack.enter_context(worker))
        until(lambda: {"cpu", "gpu"} <= {pool["name"] for pool in server.post("/work_pools/filter")}, "the pools")
        prefect(server, cpu.root, "deploy", "--all", "--prefect-file", "pools.yaml")
        prefect(server, cpu.root, "deployment", "run", "pipeline/prepare-spleen")
        report = gpu.root / "mmars" / SPLEEN / "eval/report.html"
        until(report.is_file, "the report")
        until(lambda: len(gpu.recorded) == 4, "the second machine's push")
    assert report.read_text() == "one\none\n"
