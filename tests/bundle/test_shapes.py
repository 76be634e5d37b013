"""Twelve forms of bundles: what the stages make of them equals what MONAI's own command line makes of them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.bundle.shape_parts import write_config
from tests.bundle.shapes import SHAPES
from tests.bundle.workspaces import Workspace, list_files
from voxflow.bundle import export_bundle
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")
STOCK_FOLDERS = {"bare": "output", "paths": "output", "template": "outputs"}


@pytest.mark.parametrize("name", SHAPES)
def test_the_stages_give_what_monai_gives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES[name]
    workspace = Workspace(tmp_path / "ws", shape)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = {folder: list_files(folder) for folder in (workspace.bundle, workspace.data)}
    # Something else in this process has modules of the name that bundles give to theirs.
    monkeypatch.setitem(sys.modules, "scripts", ModuleType("scripts"))

    numbers = workspace.train()
    stock = workspace.run_stock("train", shape.trainer)
    weights = torch.load(workspace.model / "model.pt", weights_only=True)
    weights = weights.get("model", weights)
    expected = stock.network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert numbers["steps"] == stock.state.iteration

    numbers = workspace.evaluate()
    stock = workspace.run_stock("evaluate", shape.evaluator)
    metrics = {key: float(value) for key, value in stock.state.metrics.items()}
    assert metrics
    assert numbers == {**metrics, "cases": 1}

    assert workspace.infer() == {"cases": 1}
    workspace.run_stock("infer", shape.inferer)
    compare_results(workspace.out("infer"), workspace.root / "stock" / STOCK_FOLDERS.get(name, "eval"))

    assert before == {folder: list_files(folder) for folder in before}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in (tmp_path / "ws/mmars/ws").iterdir()} == {"config", "models", "eval"}


def test_an_export_takes_the_network_that_was_trained(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws", SHAPES["searched"])
    values = {"network_def#num_res_units": 1}
    workspace.train(set=values)
    weights = torch.load(workspace.model / "model.pt", weights_only=True)
    torch.save({"optimizer": {"step": 1}, "network": weights}, workspace.model / "model.pt")
    image = {"type": "image", "num_channels": 1, "spatial_shape": [8, 8, 8], "dtype": "float32", "value_range": []}
    formats = {"inputs": {"image": image | {"is_patch_data": True}}, "outputs": {"pred": image}}
    write_config(workspace.bundle, "metadata.json", {"version": "0.1", "network_data_format": formats})
    (tmp_path / "export").mkdir()
    options = workspace.options("train", set=values)
    numbers = export_bundle(workspace.bundle, workspace.model, tmp_path / "export", options)
    assert numbers["torchscript_max_logit_difference"] < 1e-4
    assert {path.name for path in (tmp_path / "export").iterdir()} == {"model.ts"}


def compare_results(out: Path, expected: Path) -> None:
    """Each file of a stage's folder has the content of the file of the same name that MONAI wrote."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    assert files
    for path in files:
        candidates = [other for other in expected.rglob(path.name) if other.is_file()]
        assert len(candidates) == 1, path
        if path.name.endswith(".nii.gz"):
            mask, stock = read_volume(path), read_volume(candidates[0])
            assert np.array_equal(mask.array, stock.array)
            assert mask.geometry.is_close(stock.geometry)
        else:
            assert path.read_bytes() == candidates[0].read_bytes()
