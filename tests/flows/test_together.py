"""Trainings at once: two workspaces side by side, two of one workspace in turn; no run is lost on SQLite."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.flows.conftest import PATIENCE_S
from tests.flows.repository import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import Server

# Two of one workspace at once would find the other's mark.
TRAIN = """
import os, sys, time
from pathlib import Path
from voxflow.tracking import begin_run
workspace = sys.argv[1]
mark = Path(f"{workspace}.mark")
os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
with begin_run(workspace, params={"train": {"epochs": 40}}) as tracker:
    for epoch in range(40):
        tracker.log_metrics({"train_loss": 1 / (epoch + 1)}, step=epoch)
        time.sleep(0.02)
Path(f"{workspace}.model").write_text(tracker.run_id)
mark.unlink()
"""
GRAPH = """
stages:
  train:
    foreach: ${workspaces}
    do:
      cmd: python train.py ${key}
      outs: ["${key}.model"]
"""
EPOCHS = 40


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_no_run_is_lost_and_one_workspace_is_trained_in_turn(server: Server, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    (repository / "dvc.yaml").write_text(GRAPH)
    (repository / "train.py").write_text(TRAIN)
    command = [sys.executable, "-m", "flows.pipeline", "--force"]
    started = [
        subprocess.Popen([*command, workspace], cwd=repository, env=server.environment)
        for workspace in ("spleen_demo", "chestxray_demo", "spleen_demo", "chestxray_demo")
    ]
    assert [item.wait(PATIENCE_S) for item in started] == [0, 0, 0, 0]
    with sqlite3.connect(repository / "mlflow.db") as store:
        runs = store.execute("SELECT run_uuid, status FROM runs").fetchall()
        assert [status for _, status in runs] == ["FINISHED"] * 4
        for run, _ in runs:
            query = "SELECT COUNT(*) FROM metrics WHERE run_uuid = ? AND key = 'train_loss'"
            assert store.execute(query, (run,)).fetchone() == (EPOCHS,)
    store.close()
    for workspace in ("spleen_demo", "chestxray_demo"):
        flow_runs = server.flow_runs(f"pipeline {workspace}")
        assert [item["state_type"] for item in flow_runs] == ["COMPLETED"] * 2
