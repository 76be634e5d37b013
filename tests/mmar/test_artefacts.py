"""Names of TensorFlow's files stand for the file of that role."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voxflow.components import Component, create
from voxflow.errors import DataError
from voxflow.mmar import find_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("wanted_name", "files", "file"),
    [
        ("model.ckpt", ["model.pt", "model_final.pt"], "model.pt"),
        ("model_final.ckpt.meta", ["model.pt", "model_final.pt"], "model_final.pt"),
        ("model.ckpt", ["model.ckpt", "model.pt"], "model.pt"),
        ("model.fzn.pb", ["model.fzn.ts", "model.fzn.onnx", "model.trt.xml"], "model.fzn.ts"),
        ("model.frn.pb", ["model.fzn.onnx"], "model.fzn.onnx"),
        ("model.trt.pb", ["model.fzn.ts", "model.trt.xml"], "model.trt.xml"),
        ("model.trt.pb", ["export/model.xml", "export/model.ts"], "export/model.xml"),
        ("model.ckpt", ["train/model.pt"], "train/model.pt"),
        ("weights.pth", ["weights.pth"], "weights.pth"),
        ("model.fzn.onnx", ["model.fzn.onnx"], "model.fzn.onnx"),
    ],
)
def test_a_name_means_its_role(tmp_path: Path, wanted_name: str, files: list[str], file: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_model(tmp_path / wanted_name) == tmp_path / file


def test_what_was_looked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no optimised model: looked for model\.trt\.engine, .*export first"):
        find_model(tmp_path / "model.trt.pb")
    (tmp_path / "model.ckpt.index").touch()
    with pytest.raises(DataError, match=r"train first \(what is there is TensorFlow's, which can't be read\)"):
        find_model(tmp_path / "model.ckpt")
    with pytest.raises(DataError, match=r"should end in \.ckpt, \.fzn\.pb, \.trt\.pb or"):
        find_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("model.trt.pb", ("model.pt", "model.fzn.onnx", "model.trt.xml", "model.trt.bin"), "model.trt.xml"),
        ("model.trt.pb", ("model.pt", "export/model.onnx", "export/model.xml", "export/model.bin"), "export/model.xml"),
        ("model.fzn.pb", ("model.pt", "model.fzn.onnx", "model.fzn.ts", "model.trt.xml"), "model.fzn.ts"),
        ("model.fzn.pb", ("model.fzn.onnx", "export/model.ts"), "model.fzn.onnx"),
        ("model_final.trt.pb", ("model.pt", "model.trt.xml", "model_final.trt.xml"), "model_final.trt.xml"),
        ("model.onnx", ("model.pt", "model.onnx"), "model.onnx"),
    ],
)
def test_a_frozen_graph_means_the_export_of_its_role(
    name: str, files: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / "models" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / file).touch()
    loader = create(
        "model_loader", Component(name="FrozenGraphModelLoader", args={"model_file_path": f"models/{name}"})
    )
    assert find_model(tmp_path / loader.path) == tmp_path / "models" / expected


def test_a_checkpoint_is_the_trainings_own_file(tmp_path: Path) -> None:
    loader = create("model_loader", Component(name="CheckpointLoader", args={"checkpoint_dir": str(tmp_path)}))
    with pytest.raises(DataError, match=r"no checkpoint: looked for model\.pt"):
        find_model(loader.path)
    (tmp_path / "model.pt").touch()
    assert find_model(loader.path) == tmp_path / "model.pt"
