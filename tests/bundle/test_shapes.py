"""Twelve forms of bundles: what the stages make of them equals what MONAI's own command line makes of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.bundle.shape_parts import CASES, write_radiographs, write_volumes
from tests.bundle.shapes import SHAPES, Shape
from voxflow.bundle import BundleOptions, evaluate_bundle, infer_bundle, train_bundle
from voxflow.bundle.parts import _forget_modules
from voxflow.tracking import NullTracker
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite: pip install voxflow[bundle]")
pytestmark = pytest.mark.filterwarnings("ignore")


class Workspace:
    """A bundle, its data, and the folders of a workspace."""

    def __init__(self, root: Path, shape: Shape) -> None:
        self.root, self.shape = root, shape
        self.bundle, self.data = root / "mmars/ws/config", root / "data"
        (write_radiographs if shape.is_flat else write_volumes)(self.data)
        shape.write(self.bundle, self.data)
        if not shape.is_flat:
            name = "paired.json" if shape is SHAPES["listed"] else "dataset.json"
            shutil.copy(self.data / name, self.bundle / "configs/datalist.json")
        self.model = root / "mmars/ws/models/train"

    def options(self, stage: str, **changes: Any) -> BundleOptions:
        """What the workspace says."""
        stated = {**self.shape.options.get("", {}), **self.shape.options.get(stage, {})}
        return BundleOptions(**{**stated, **changes})

    def items(self, *names: str, with_label: bool = True) -> list[dict[str, Any]]:
        """Cases as the stages list them."""
        return [self._item(name, with_label) for name in names]

    def _item(self, name: str, with_label: bool) -> dict[str, Any]:
        number = CASES.index(name)
        if self.shape.is_flat:
            part = "train" if number < 2 else "val" if number == 2 else "test"
            image, label = self.data / f"{part}/{name}.png", self.data / f"{part}/{name}_seg.png"
        else:
            part = "Tr" if number < 3 else "Ts"
            image, label = self.data / f"images{part}/{name}.nii.gz", self.data / f"labels{part}/{name}.nii.gz"
        item: dict[str, Any] = {"image": str(image), "label": str(label)}
        if self.shape is SHAPES["listed"]:
            item["image"] = [str(image), str(image).replace("images", "second")]
        if self.shape is SHAPES["classifier"]:
            item["label"] = number % 2
        return item if with_label else {"image": item["image"]}

    def train(self, **changes: Any) -> dict[str, float]:
        """Run the stage."""
        options = self.options("train", **changes)
        data = {options.train_data: self.items(*CASES[:2]), options.validate_data: self.items(CASES[2])}
        curves = self.model.parent / "curves.csv"
        return train_bundle(self.bundle, self.model, options, data=data, tracker=NullTracker(), curves=curves).numbers

    def evaluate(self, **changes: Any) -> dict[str, float]:
        """Run the stage on the case that training validated on."""
        options, out = self.options("evaluate", **changes), self.root / "mmars/ws/eval/test"
        out.mkdir(parents=True, exist_ok=True)
        data = {options.validate_data: self.items(CASES[2])}
        return evaluate_bundle(self.bundle, self.model, out, options, data=data).numbers

    def infer(self, **changes: Any) -> dict[str, float]:
        """Run the stage."""
        options, out = self.options("infer", **changes), self.root / "mmars/ws/eval/infer"
        out.mkdir(parents=True, exist_ok=True)
        data = {options.infer_data: self.items(CASES[3], with_label=False)}
        return infer_bundle(self.bundle, self.model, out, options, data=data).numbers

    def run_stock(self, stage: str, engine: str) -> Any:
        """Run a copy of the bundle as MONAI's command line does, in the copy's folder; returns the engine."""
        copy = self.root / "stock"
        if not copy.exists():
            shutil.copytree(self.bundle, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if stage != "train":
            (copy / "models").mkdir(exist_ok=True)
            shutil.copy(self.model / "model.pt", copy / self.shape.weights)
        values = {**self.shape.stock.get("", {}), **self.shape.stock.get(stage, {})}
        values = {name: str(value).replace("DATA", str(self.data)) for name, value in values.items()}
        with in_folder(copy):
            from monai.bundle import ConfigWorkflow

            files = [f"configs/{name}" for name in getattr(self.shape, stage)]
            stated = {"data_list_file_path": "configs/datalist.json"} if "data_list_file_path" in values else {}
            entry = self.shape.entries.get(stage, "run")
            workflow = ConfigWorkflow(
                files, logging_file=False, run_id=entry, workflow_type=None, bundle_root=".", **values | stated
            )
            workflow.initialize()
            workflow.run()
            workflow.finalize()
            return workflow.parser.get_parsed_content(engine)


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        _forget_modules(folder)


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time by name."""
    stats = {path: path.stat() for path in folder.rglob("*") if "__pycache__" not in path.parts}
    return {
        str(path.relative_to(folder)): (stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
        if path.is_file()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_the_stages_give_what_monai_gives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES[name]
    workspace = Workspace(tmp_path / "ws", shape)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = {folder: list_files(folder) for folder in (workspace.bundle, workspace.data)}

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
    folder = (
        workspace.root
        / "stock"
        / ("output" if name in ("bare", "paths") else "outputs" if name == "template" else "eval")
    )
    compare_results(workspace.root / "mmars/ws/eval/infer", folder)

    assert before == {folder: list_files(folder) for folder in before}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in (tmp_path / "ws/mmars/ws").iterdir()} == {"config", "models", "eval"}


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
