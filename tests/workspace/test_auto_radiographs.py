"""``voxflow new --template auto`` on radiographs: what it makes, and its stages on several findings and folds."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tasks.common.folds import main as main_fold
from tasks.common.stage import main as main_stage
from tests.dicom.objects import Series, random_values
from voxflow.cli.main import main
from voxflow.geometry import Geometry
from voxflow.synthetic import write_chest_xray
from voxflow.tracking import NullTracker
from voxflow.training import read_checkpoint
from voxflow.volumes import Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = Geometry.from_parts((6, 5, 4), (1, 1, 1))


def write_pictures(folder: Path) -> None:
    for number, finding in enumerate(["no_findings", "pneumonia", "pneumonia"]):
        (folder / finding).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 30)).astype(np.uint8)
        write_radiograph(folder / finding / f"0000{number}_000.png", pixels)


def write_pair(folder: Path) -> None:
    for part in ("images", "labels"):
        write_volume(folder / part / "p1.nii.gz", Volume(np.ones(GRID.size, np.uint8), GRID))


def write_volumes_with_a_picture(folder: Path) -> None:
    write_pair(folder)
    write_pictures(folder / "figures")


def write_ct(folder: Path) -> None:
    Series(abs(random_values((3, 4, 5), 1)), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), patient="P1").write(folder)


def write_chests(folder: Path) -> None:
    write_chest_xray(folder, 4, 1)


@pytest.mark.parametrize(
    ("write", "task"),
    [
        (write_pictures, "classification"),
        (write_chests, "classification"),
        (write_pair, "segmentation"),
        (write_volumes_with_a_picture, "segmentation"),
        (write_ct, "segmentation"),
    ],
)
def test_auto_means_what_the_folder_holds(root: Path, write: Callable[[Path], None], task: str) -> None:
    write(root / "raw")
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    block = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]
    assert (block["task"], block["train"]["plan"]) == (task, "auto")


def test_another_template_stays_what_was_asked_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(root / "raw")
    assert main(["new", "mine", "--source", "raw", "--template", "classification"]) == 0
    assert "plan" not in yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]["train"]
    assert "made from the template" not in capsys.readouterr().err


def run_stage(patch: pytest.MonkeyPatch, name: str, *words: str) -> None:
    program = importlib.import_module(f"tasks.{name}")
    if hasattr(program, "begin_run"):
        patch.setattr(program, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("")))
    if hasattr(program, "find_common_parent"):
        patch.setattr(program, "find_common_parent", lambda _: None)
    patch.setattr(sys, "argv", [name, "mine", *words])
    if not words:
        assert main_stage(name, program.run) == 0, name
        return
    works: dict[str, Any] = {"run_fold": getattr(program, "run_fold", program.run)}
    works |= {"run_ensemble": program.run_ensemble} if hasattr(program, "run_ensemble") else {}
    assert main_fold(name, program.run, **works) == 0, (name, words)


def test_several_findings_are_learnt_by_folds_and_by_all_of_them(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOXFLOW_CACHE", str(root / "cache"))
    write_chest_xray(root / "raw", 40, 1)
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    params = yaml.safe_load((root / "params.yaml").read_text())
    block = params["workspaces"]["mine"]
    block["convert"] |= {"pseudonym_key": "k", "mapping": False}
    block["split"] |= {"folds": 2}
    block["train"]["set"] = {"epochs": 1}
    block["export"] = {"engines": ["torchscript"], "parity_cases": 1}
    params |= {
        "folds": {f"mine-{number}": {"workspace": "mine", "fold": number} for number in (1, 2)},
        "ensembles": {"mine": {"folds": [1, 2]}},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("convert", "validate", "resample", "split"):
        run_stage(monkeypatch, name)
    capsys.readouterr()
    assert main(["plan", "mine", "--quick"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["findings"].startswith("mass in ")
    assert rows["network"] == "4 of ResNet, from scratch"
    assert main(["check", "mine"]) == 0
    params_text, config = Path("params.yaml").read_text(), Path("mmars/mine/config/config_train.json")
    auto_config = config.read_text()
    assert main(["plan", "mine", "--quick", "--apply"]) == 0
    assert yaml.safe_load(Path("params.yaml").read_text())["workspaces"]["mine"]["train"]["plan"] == "config"
    assert json.loads(config.read_text())["epochs"] == 60
    Path("params.yaml").write_text(params_text)
    config.write_text(auto_config)
    for fold in ("1", "2"):
        for name in ("train", "export", "evaluate"):
            run_stage(monkeypatch, name, "--fold", fold)
    for name in ("evaluate", "infer"):
        run_stage(monkeypatch, name, "--ensemble")
    trained = Path("mmars/mine/models/folds/1/train")
    spec = json.loads(read_checkpoint(trained / "model.pt")["spec"])
    assert (spec["class_names"], spec["mirrored"]) == (["mass", "effusion", "cardiomegaly"], ["j"])
    assert json.loads((trained / "plan.json").read_text())["findings"].keys() == {"mass", "effusion", "cardiomegaly"}
    numbers = json.loads(Path("data/metrics/mine/ensemble/evaluate.json").read_text())
    assert numbers["folds/mean_auc_std"] >= 0
    assert (
        numbers["folds/pooled_mean_auc_low"]
        <= numbers["folds/pooled_mean_auc"]
        <= numbers["folds/pooled_mean_auc_high"]
    )
    assert "\npooled,held-out cases," in Path("mmars/mine/eval/ensemble/cross_validation.csv").read_text()
