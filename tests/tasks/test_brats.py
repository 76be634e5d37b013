"""The guide's BraTS configuration in the stages and in an MMAR: the same weights, and regions to the end."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tests.tables import read_table
from tests.tasks.stage_runs import read_array, run_stages
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume
from voxflow.workspace import create_workspace, recognise_source

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "brats" / "config_brats_16.json"
ENDINGS = ("t1", "t1ce", "t2", "flair")
REGIONS = {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}
SIZE = [16, 16, 16]
SMALL: dict[str, Any] = {
    "epochs": 3,
    "num_workers": 0,
    "network_input_size": SIZE,
    "record_step": "best_only",
    "net_config.init_filters": 8,
    "net_config.blocks_down": "1,1",
    "net_config.blocks_up": "1",
    "train.pre_transforms[2].size": SIZE,
    "validate.pre_transforms[2].size": SIZE,
}


def write_brats(folder: Path, cases: int = 8) -> dict[str, Any]:
    """Write cases in the style of 2021; return each label by its case's name."""
    geometry = Geometry.from_parts((16, 16, 16), (1, 1, 1), (3, 4, 5), np.eye(3))
    labels = {}
    for number in range(cases):
        label = np.zeros((16, 16, 16), np.uint8)
        label[3:13, 3:13, 3 + number % 3 : 13] = 2
        label[5:11, 5:11, 5:11] = 1
        label[6:10, 6:10, 6:10] = 4
        noise = np.random.default_rng(number).normal(0, 5, (4, *label.shape))
        name = f"BraTS2021_{number:05d}"
        labels[name] = label
        for channel, ending in enumerate(ENDINGS):
            image = (label > 0) * 60 + (label == (4, 1, 2, 2)[channel]) * 60 + 50 + noise[channel]
            write_volume(folder / name / f"{name}_{ending}.nii.gz", Volume(image.astype(np.float32), geometry))
        write_volume(folder / name / f"{name}_seg.nii.gz", Volume(label, geometry))
    return labels


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose workspace has the guide's configuration, after all stages."""
    root = tmp_path_factory.mktemp("brats")
    (root / "params.yaml").write_text("workspaces: {}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_brats(Path("raw"))
        create_workspace("brain", Path("raw"), "segmentation", layout=recognise_source(Path("raw")))
        shutil.copy(EXAMPLE, "mmars/brain/config/config_train.json")
        block = yaml.safe_load(Path("params.yaml").read_text())["workspaces"]["brain"]
        block["convert"] |= {"pseudonym_key": "k", "keep_names": True, "mapping": False}
        block["resample"]["spacing_mm"] = [1.0, 1.0, 1.0]
        block["split"] = {"seed": 7, "testing": 2, "validation": 2}
        block["train"] = {"config": "config/config_train.json", "set": SMALL, "precision": "fp32"}
        block["export"] = {"engines": ["torchscript"], "parity_cases": 1}
        block["infer"] = {"key": "testing"}
        run_stages(("convert", "resample", "split", "train", "export", "evaluate", "infer"), block, patch)
    return root


def run_train_module(arguments: list[str]) -> None:
    """Run ``python -m nvmidl.apps.train`` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *arguments])
        patch.delitem(sys.modules, "nvmidl.apps.train", raising=False)
        with pytest.raises(SystemExit) as ending:
            runpy.run_module("nvmidl.apps.train", run_name="__main__")
    assert ending.value.code == 0


def read_model(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The spec and the weights of a model file."""
    import torch

    content = torch.load(path, weights_only=True)
    return json.loads(content["spec"]), content["state_dict"]


def test_model_file_knows_what_the_configuration_makes_of_the_labels(stages: Path) -> None:
    spec, _ = read_model(stages / "mmars/brain/models/train/model.pt")
    assert spec["class_names"] == list(REGIONS)
    assert [sorted(values) for values in spec["regions"]] == [sorted(values) for values in REGIONS.values()]


def test_masks_and_scores_are_of_the_data_sets_values(stages: Path, tmp_path: Path) -> None:
    truth = write_brats(tmp_path)
    out = stages / "mmars/brain/eval/test"
    rows = read_table(out / "per_case.csv")
    assert len(rows) == 2
    for row in rows:
        mask = read_array(out / "masks" / f"{row['case']}.nii.gz")
        assert set(np.unique(mask)) <= {0, 1, 2, 4}
        for name, values in REGIONS.items():
            predicted, true = np.isin(mask, values), np.isin(truth[row["case"]], values)
            dice = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(dice, abs=1e-6)


def test_the_apps_learn_the_same_weights_from_the_guides_datalist(stages: Path, tmp_path: Path) -> None:
    import torch

    content = json.loads((stages / "data/datalists/brain/dataset_0.json").read_text())

    def place(item: dict[str, Any]) -> dict[str, Any]:
        name = Path(item["label"]).name.removesuffix(".nii.gz")
        images = [f"{name}/{name}_{ending}.nii.gz" for ending in ENDINGS]
        return {"image": images, "label": f"{name}/{name}_seg.nii.gz"}

    parts = {key: [place(item) for item in content[key]] for key in ("training", "validation")}
    write_json(tmp_path / "config" / "dataset_0.json", parts)
    shutil.copy(EXAMPLE, tmp_path / "config" / "config_train.json")
    environment = {"DATA_ROOT": (stages / "raw").as_posix(), "DATASET_JSON": "config/dataset_0.json"}
    write_json(tmp_path / "config" / "environment.json", environment | {"MMAR_CKPT_DIR": "models"})
    values = [f"{key}={json.dumps(value)}" for key, value in {**SMALL, "precision": "fp32"}.items()]
    flags = ["-m", str(tmp_path), "-c", "config/config_train.json", "-e", "config/environment.json"]
    run_train_module([*flags, "--write_train_stats", "--set", *values])
    spec, weights = read_model(tmp_path / "models/model.pt")
    stage_spec, stage_weights = read_model(stages / "mmars/brain/models/train/model.pt")
    assert spec["class_names"] == stage_spec["class_names"]
    assert weights.keys() == stage_weights.keys()
    assert len(weights) > 10
    for name, value in weights.items():
        assert torch.equal(value, stage_weights[name]), name
    numbers = json.loads((tmp_path / "models/train_stats.json").read_text())
    stage_numbers = json.loads((stages / "mmars/brain/models/train.json").read_text())
    compared = [name for name in stage_numbers if "dice" in name]
    assert len(compared) >= 4
    assert any(stage_numbers[name] > 0 for name in compared)
    assert {name: numbers[name] for name in compared} == {name: stage_numbers[name] for name in compared}
