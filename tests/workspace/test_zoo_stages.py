"""A workspace of the zoo in a repository: the stages train it, and so do its own scripts, on the same data."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from tasks import convert, resample, split, train
from tasks.common.stage import Stage
from tests.workspace.phantoms import write_cases
from tests.workspace.programs import ROOT
from tests.workspace.test_zoo_training import QUICK, SMALL_NETWORK, settings, small
from voxflow.cli.apps import train_main
from voxflow.places import load_params
from voxflow.tracking import NullTracker
from voxflow.training import load_model
from voxflow.workspace import create_workspace
from voxflow.workspace.zoo import read_zoo

NAME = "segmentation_mri_hippocampus"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds a repository's two files, and the Decathlon's folders of synthetic cases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("VOXFLOW_PSEUDONYM_KEY", "synthetic")
    monkeypatch.setattr(train, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("run7")))
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    Path("params.yaml").write_text("workspaces: {}\n")
    write_cases(read_zoo()[NAME], tmp_path / "nifti", 7)
    return tmp_path


def test_stages_and_scripts_train_the_same_workspace(repository: Path) -> None:
    mmar = create_workspace("hippo", Path("nifti"), NAME, root=repository, variant="cpu")
    values = small(NAME) | SMALL_NETWORK["volume"]
    block = load_params("workspaces", "hippo")
    block["train"] |= {"threads": 1, "workers": 0, "set": values}
    for stage in (convert, resample, split, train):
        name = stage.__name__.rpartition(".")[2]
        assert stage.run(Stage("hippo", name, block)) == 0
    spec = load_model(mmar / "models/train/model.pt")[1]
    assert spec.class_names == ("background", "head", "body")
    assert spec.spacing_mm == (1.0, 1.0, 1.0)
    # By hand, from any folder, on what the stages made ready.
    assert train_main(["-m", str(mmar), "--set", *QUICK, *settings(values)]) == 0
    by_hand = load_model(mmar / "models/model.pt")[1]
    assert by_hand.class_names == spec.class_names
    assert by_hand.window == spec.window
    data = json.loads((mmar / "models/data.json").read_text())
    assert Path(data["root"]) == repository / "data/resampled/hippo"
