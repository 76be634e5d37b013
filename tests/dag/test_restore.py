"""A backup that is restored elsewhere trains, promotes and infers as before, and leaves the former folder alone."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.dag.conftest import make_small
from tests.dag.repository import CHEST, SPLEEN, Repository

if TYPE_CHECKING:
    from pathlib import Path

REPORT = f"report@{SPLEEN}"
RUN_ON = ("dvc", "repro", REPORT)
# What a training with the same seed makes byte for byte, and what was decided.
SAME = ("models/train/model.pt", "models/export/model.ts", "eval/infer/*/*.nii.gz", "eval/test/masks/*.nii.gz")
STORE = """
import json, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
versions = client.search_model_versions()
files = {v.version: bool(mlflow.artifacts.list_artifacts(run_id=v.run_id)) for v in versions}
print(json.dumps({"places": sorted({r.info.artifact_uri for r in runs}), "runs": len(runs), "files": files}))
"""


def make_repository(root: Path) -> Repository:
    repository = Repository.copy_to(root)
    params = repository.params
    make_small(params)
    for key in ("samples", "workspaces"):
        del params[key][CHEST]
    repository.set_params(params)
    repository.commit("one small workspace")
    return repository


def train_longer(repository: Repository) -> str:
    """Change the training and run what follows of it; returns what DVC printed."""
    params = repository.params
    params["workspaces"][SPLEEN]["train"]["set"]["epochs"] = 2
    repository.set_params(params)
    return repository.run(*RUN_ON).stdout


def read_results(root: Path) -> dict[str, str]:
    mmar = root / "mmars" / SPLEEN
    paths = sorted(path for pattern in SAME for path in mmar.glob(pattern))
    digests = {str(path.relative_to(mmar)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    decision = json.loads((mmar / "eval/decision.json").read_text())
    return digests | {key: str(decision[key]) for key in ("verdict", "challenger", "champion")}


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_training_goes_on_elsewhere_as_it_would_have_here(tmp_path: Path) -> None:
    former, home, remote, backup = (tmp_path / name for name in ("former", "home", "remote", "backup"))
    old = make_repository(former)
    old.run(*RUN_ON)
    old.run("dvc", "remote", "add", "--default", "disk", str(remote))
    old.commit("the results")
    old.run(sys.executable, "-m", "tasks.ops.backup", "--databases", str(backup))
    old.run("git", "clone", "--quiet", str(former), str(home))
    train_longer(old)
    expected = read_results(former)
    # Whatever is looked for there is missed, and whatever is written there is found.
    former.rename(tmp_path / "gone")

    new = Repository(home)
    new.run("dvc", "pull")
    new.run(sys.executable, "-m", "tasks.ops.restore", str(backup))
    assert "didn't change" in new.run(*RUN_ON).stdout
    printed = train_longer(new)

    stages = {line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")}
    assert stages == {f"{stage}@{SPLEEN}" for stage in ("train", "export", "evaluate", "infer", "promote", "report")}
    assert read_results(home) == expected
    assert {name.split("/")[0] for name in expected} >= {"models", "eval", "verdict"}
    store = json.loads(new.run(sys.executable, "-c", STORE).stdout.splitlines()[-1])
    assert store["runs"] == 2
    assert [place for place in store["places"] if not place.removeprefix("file://").startswith(str(home))] == []
    assert store["files"]
    assert all(store["files"].values()), "the files of each version are here"
    assert not former.exists()
