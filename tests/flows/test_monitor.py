"""The flow monitor: its verdict as an artifact, and a training where new labels ask for one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import Server

WORKSPACE = "chestxray_demo"
CASES = "case,patient,modality,image,label\na_1,a,CT,images/a.nii.gz,labels/a.nii.gz\nb_1,b,CT,images/b.nii.gz,\n"


def run(server: Server, repository: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "flows.monitor", *arguments]
    return subprocess.run(command, cwd=repository, env=server.environment, check=False).returncode


def test_new_labels_start_a_training(server: Server, repository: Path) -> None:
    params = (repository / "params.yaml").read_text()
    block = "{word: two, task: segmentation, source: raw, monitor: {retrain: {new_labelled: 1}}}"
    (repository / "params.yaml").write_text(params.replace("{word: two}", block))
    before = len(server.flow_runs(f"retrain {WORKSPACE}"))
    assert run(server, repository, WORKSPACE) == 0
    first = server.flow_runs(f"monitor {WORKSPACE}")[0]
    assert first["state"]["message"] == "no inbox to look at"
    assert len(server.flow_runs(f"retrain {WORKSPACE}")) == before
    (repository / f"data/volumes/{WORKSPACE}").mkdir(parents=True)
    (repository / f"data/volumes/{WORKSPACE}/cases.csv").write_text(CASES)
    assert run(server, repository, WORKSPACE) == 0
    second = server.flow_runs(f"monitor {WORKSPACE}")[0]
    assert "retrained: 1 labelled cases that no training has seen" in second["state"]["message"]
    assert "a training is due" in server.artifacts(second["id"])["markdown"]["data"]
    trainings = server.flow_runs(f"retrain {WORKSPACE}")
    assert (len(trainings), trainings[0]["state_type"]) == (before + 1, "COMPLETED")
    assert (repository / "data/index.html").is_file()
