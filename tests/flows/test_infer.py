"""The flow infer with the champion of the registry: its files answer, not the workspace's last export."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.dicom.objects import Series, random_values
from tests.flows.conftest import Server, until
from tests.flows.repository import make_repository
from tests.inference.models import save_unet
from voxflow.tracking import CHAMPION, register_version, set_alias

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE, SERIES = "clinic_ct", "1.2.840.99.1.1"
BLOCK = {
    "task": "segmentation",
    "source": "data/raw",
    "ingest": {"folder": "drop", "settle_s": 0},
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "infer": {"engine": "torch", "overlays": 0},
}
RUN = f"from flows.infer import infer; infer({WORKSPACE!r}, model='champion', send=False, return_state=True)"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One series in the inbox; an export that is no model, so that it would be noticed."""
    root = make_repository(tmp_path / "repository")
    (root / "params.yaml").write_text(yaml.safe_dump({"workspaces": {WORKSPACE: BLOCK}}))
    Series(random_values((12, 24, 20)), uid=SERIES).write(root / "drop")
    broken = root / "mmars" / WORKSPACE / "models/export/model.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")
    monkeypatch.chdir(root)
    # The store that its stages take, under a name that no other test's has: MLflow keeps stores open by their names.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    return root


def run(server: Server, repository: Path, program: list[str]) -> None:
    subprocess.run([sys.executable, *program], cwd=repository, env=server.environment, check=True)


@pytest.mark.timeout(600)
def test_the_champion_answers_or_the_flow_says_that_there_is_none(server: Server, repository: Path) -> None:
    run(server, repository, ["-m", "tasks.ops.ingest", WORKSPACE])
    run(server, repository, ["-c", RUN])
    name = f"infer {WORKSPACE}"
    (without,) = server.flow_runs(name)
    assert without["state_type"] == "FAILED"
    assert f"no version of {WORKSPACE} is called 'champion'" in without["state"]["message"]
    tried = until(lambda: server.stage_runs(without["id"]), "the errand's state")
    assert {task_run["name"]: task_run["run_count"] for task_run in tried.values()} == {f"champion {WORKSPACE}": 1}

    for content in ("first", "second"):
        exported = repository / "registered" / content
        save_unet(exported / "model.pt")
        version = register_version(WORKSPACE, "", content, {"export": exported}, {})
    set_alias(version, CHAMPION)
    run(server, repository, ["-c", RUN])
    assert server.flow_runs(name)[0]["state"]["message"].startswith(
        f"answer {WORKSPACE}: masks for 1 series by {WORKSPACE}/2, kept in"
    )
    answer = repository / "data/answers" / WORKSPACE / SERIES
    assert json.loads((answer / "answer.json").read_text())["model"] == f"{WORKSPACE}/2"
    assert len(list(answer.glob("*/*_seg.dcm"))) == 1
