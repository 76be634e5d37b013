"""Twelve forms of bundles: what the stages make of them equals what MONAI's own command line makes of them."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.bundle.shape_parts import write_config
from tests.bundle.shapes import SHAPES
from tests.bundle.workspaces import Workspace, list_files
from voxflow.bundle import BundleExportOptions, export_bundle
from voxflow.bundle.engines import export_bundle_engines
from voxflow.errors import ConfigError
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
    assert numbers.keys() == {"torchscript_max_logit_difference", "cases"}
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    (tmp_path / "engines").mkdir()
    asked = BundleExportOptions(engines=("torchscript", "tensorrt_rtx"), tensorrt_precision="fp16")
    numbers = export_bundle(workspace.bundle, workspace.model, tmp_path / "engines", options, asked)
    assert numbers["tensorrt_rtx"]["compared"] == 0
    described = json.loads((tmp_path / "engines/model.rtx.engine.json").read_text())
    assert described["spec"]["window"] == [8, 8, 8]
    assert described["limits"] == {"max_abs_difference": None, "min_dice": 0.99}
    assert (tmp_path / "engines/model.ts").is_file()


class Pair(torch.nn.Module):
    """Answers with two tensors, as a network with deep supervision does."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image, image


@pytest.mark.parametrize(("network", "shape", "text"), [
    (Pair(), (1, 1, 8, 8, 8), "gives tuple"),
    (torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()), (1, 1, 8, 8, 8), r"gives \[\]"),
    (torch.nn.Conv2d(1, 2, 1), (1, 1, 8, 8), "gives no volume"),
    (torch.nn.Conv3d(1, 2, 3), (1, 1, 8, 8, 8), r"gives \[6, 6, 6\]"),
])  # fmt: skip
def test_a_network_that_answers_otherwise_gets_no_engine(
    network: torch.nn.Module, shape: tuple[int, ...], text: str, tmp_path: Path
) -> None:
    options = BundleExportOptions(engines=("onnx",))
    with pytest.raises(ConfigError, match=f"export.engines: engines are made of networks that .* {text}"):
        export_bundle_engines(network, shape, tmp_path, options)
    assert not list(tmp_path.iterdir())


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
