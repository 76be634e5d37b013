"""Shared fixtures: two small trained workspaces, as they lie on the disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.training.conftest import radiograph_config, volume_config, write_corner, write_cube
from voxflow.config import load_workflow
from voxflow.datalist import Datalist
from voxflow.files import write_json
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = TrainOptions(accelerator="cpu", threads=1, workers=0, seed=3, precision="fp32")


def write_workspace(folder: Path, config: dict[str, Any], datalist: dict[str, Any], data: Path) -> Path:
    """An MMAR whose environment names its data."""
    for section in ("train", "validate"):
        places = {"data_list_file_path": "{DATASET_JSON}", "data_file_base_dir": "{DATA_ROOT}"}
        config[section]["image_pipeline"]["args"] |= places
    write_json(folder / "config/config_train.json", config)
    write_json(folder / "config/dataset_0.json", datalist)
    places = {"DATA_ROOT": str(data), "DATASET_JSON": str(folder / "config/dataset_0.json")}
    write_json(folder / "config/environment.json", places)
    return folder


def train_workspace(folder: Path, data: Path, facts: DataFacts) -> None:
    workflow = load_workflow(folder / "config/config_train.json", environment=folder / "config/environment.json")
    datalist = Datalist.read(folder / "config/dataset_0.json", data)
    train(workflow, datalist, OPTIONS, folder / "models/train", facts=facts, tracker=NullTracker())


@pytest.fixture(scope="session")
def cube_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright cubes: 3D segmentation, trained for two epochs."""
    base = tmp_path_factory.mktemp("cubes")
    cases = [write_cube(base / "data", f"cube{n}", n) for n in range(4)]
    items = [{"image": c.image[0].name, "label": f"{c.id}_label.nii.gz"} for c in cases]
    datalist = {"labels": {"0": "background", "1": "cube"}, "training": items[:3], "validation": items[3:]}
    config = volume_config() | {"epochs": 2, "num_training_epoch_per_valid": 1}
    flip = {"name": "RandomAxisFlip", "args": {"fields": ["image", "label"]}}
    config["train"]["pre_transforms"].append(flip)
    workspace = write_workspace(base / "cubes", config, datalist, base / "data")
    names = ("background", "cube")
    train_workspace(workspace, base / "data", DataFacts(class_names=names, spacing_mm=(1, 1, 2), orientation="LPS"))
    return workspace


@pytest.fixture(scope="session")
def corner_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright corners: 2D classification, two findings, trained for one epoch."""
    base = tmp_path_factory.mktemp("corners")
    (base / "data").mkdir()
    cases = [write_corner(base / "data", f"corner{n}", n) for n in range(8)]
    items = [{"image": c.image[0].name, "label": list(c.label or ())} for c in cases]  # type: ignore[arg-type]
    datalist = {"label_format": [1, 1], "training": items[:5], "validation": items[5:]}
    workspace = write_workspace(base / "corners", radiograph_config() | {"epochs": 1}, datalist, base / "data")
    train_workspace(workspace, base / "data", DataFacts(class_names=("corner", "none")))
    return workspace


@pytest.fixture
def content() -> Callable[[Path], Any]:
    return lambda path: json.loads(path.read_text(encoding="utf-8"))
