"""Two stages in DVC: a low resolution by folds, then the full one; nobody is shown a mask of a model that knows it."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.dag.repository import Repository, imported_modules, unreached_modules
from tests.offline import record_connections
from tests.tables import read_table
from voxflow.geometry import Geometry
from voxflow.training import load_model, read_checkpoint
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LOW_STAGES = {f"{stage}_fold@ball_low-{fold}" for stage in ("train", "export", "evaluate") for fold in (1, 2)}
TWICE = {f"{stage}@{name}" for stage in ("convert", "validate", "resample", "split") for name in ("ball", "ball_low")}
SECOND = {f"{stage}@ball" for stage in ("previous", "train", "export", "evaluate")}


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def write_balls(root: Path) -> None:
    """Ten noisy images with a ball each, in the layout of the Decathlon."""
    rng = np.random.default_rng(0)
    grid = Geometry.from_parts((32, 28, 24), (1, 1, 1.5))
    places = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), -1)
    for number in range(10):
        label = (np.linalg.norm(places - rng.uniform(9, 16, 3), axis=-1) < 6).astype(np.uint8)
        image = (label * 100 + rng.normal(50, 20, grid.size)).astype(np.float32)
        write_volume(root / f"imagesTr/ball{number}.nii.gz", Volume(image, grid))
        write_volume(root / f"labelsTr/ball{number}.nii.gz", Volume(label, grid))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    copy = Repository.copy_to(tmp_path_factory.mktemp("repository"))
    write_balls(copy.root / "data/raw/balls")
    voxflow = (sys.executable, "-m", "voxflow.cli.main")
    copy.run(*voxflow, "new", "ball", "--source", "data/raw/balls", "--template", "auto", "--two-stage")
    copy.run(*voxflow, "folds", "ball_low", "2")
    params = copy.params
    params["samples"] = {}
    for name in ("ball", "ball_low"):
        params["workspaces"][name]["train"] |= {"max_minutes": 0.15, "threads": 1}
        params["workspaces"][name]["split"] |= {"testing": 2, "validation": 2}
    params["workspaces"]["ball_low"]["resample"]["most_voxels"] = 4000
    params["workspaces"]["ball_low"]["export"]["engines"] = ["torchscript"]
    params["workspaces"]["ball"]["export"]["engines"] = ["openvino"]
    params["workspaces"] = {name: params["workspaces"][name] for name in ("ball", "ball_low")}
    copy.set_params(params)
    return copy


def read_json(repository: Repository, name: str) -> Any:
    return json.loads(repository.read(name))


def test_the_second_stage_brings_the_first_along_and_runs_once(repository: Repository, tmp_path: Path) -> None:
    log, modules = tmp_path / "connections.txt", tmp_path / "modules.txt"
    environment = record_connections(log, repository.environment) | {"VOXFLOW_MODULES": str(modules)}
    output = repository.run("dvc", "repro", "evaluate@ball", env=environment).stdout
    assert ran(output) == TWICE | LOW_STAGES | SECOND
    assert "previous" in (imported := imported_modules(modules))
    assert unreached_modules(imported) == {}
    assert not ran(repository.run("dvc", "repro", "evaluate@ball").stdout)
    assert read_json(repository, "data/metrics/ball/evaluate.json")["cases"] == 2
    files = {path.name for path in (repository.root / "mmars/ball/models/export").iterdir()}
    assert {"model.pt", "model.xml", "model-2of3.xml", "model-3of3.xml"} <= files
    assert read_json(repository, "mmars/ball/models/parity.json")["openvino"]["published"] == 1
    # The image has 32 x 28 x 24 voxels; nnU-Net's rule makes the first stage's coarser.
    assert read_json(repository, "data/resampled/ball_low/resample.json")["spacing_mm"][0] > 1.5
    assert read_json(repository, "data/resampled/ball/resample.json")["spacing_mm"] == [1, 1, 1.5]


def test_a_case_is_shown_no_mask_of_a_model_that_has_seen_it(repository: Repository) -> None:
    record = read_json(repository, "mmars/ball/config/previous.json")
    parts = read_json(repository, "data/datalists/ball/dataset_0.json")
    shown = {case["case"] for part in ("training", "validation") for case in parts[part]}
    assert set(record["cases"]) == shown
    for name, entry in record["cases"].items():
        fold = read_json(repository, f"data/datalists/ball_low/fold_{entry['fold']}.json")
        assert name in {case["case"] for case in fold["validation"]}
        assert name not in {case["case"] for case in fold["training"]}
        mask = read_volume(repository.root / f"data/previous/ball/{name}.nii.gz")
        image = read_volume(repository.root / f"data/resampled/ball/images/{name}.nii.gz")
        assert mask.geometry.is_close(image.geometry)


def first_stages(repository: Repository, path: str) -> list[dict[str, torch.Tensor]]:
    weights = read_checkpoint(repository.root / path)["state_dict"]
    numbers = sorted({name.split(".")[1] for name in weights if name.startswith("previous.")})
    starts = [f"previous.{number}." for number in numbers]
    return [{k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)} for start in starts]


def low_model(repository: Repository, fold: int) -> dict[str, torch.Tensor]:
    path = repository.root / f"mmars/ball_low/models/folds/{fold}/train/model.pt"
    return dict(load_model(path)[0].state_dict())


def is_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_fold_of_the_second_stage_holds_the_first_stages_model_of_the_same_fold(repository: Repository) -> None:
    both = first_stages(repository, "mmars/ball/models/export/model.pt")
    assert [is_same(own, low_model(repository, fold)) for fold, own in enumerate(both, 1)] == [True, True]
    repository.run(sys.executable, "-m", "voxflow.cli.main", "folds", "ball", "2")
    stages = ran(repository.run("dvc", "repro", "evaluate_fold@ball-1").stdout)
    # The folds of the second stage leave its own training, and the first stage, as they are.
    assert stages == {
        "split@ball",
        "previous@ball",
        *(f"{stage}_fold@ball-1" for stage in ("train", "export", "evaluate")),
    }
    (own,) = first_stages(repository, "mmars/ball/models/folds/1/export/model.pt")
    assert is_same(own, low_model(repository, 1))
    judged = {row["case"] for row in read_table(repository.root / "mmars/ball/eval/folds/1/held_out/per_case.csv")}
    seen = read_json(repository, "data/datalists/ball_low/fold_1.json")["training"]
    assert not judged & {case["case"] for case in seen}
    assert not ran(repository.run("dvc", "repro", "train@ball").stdout)


def test_another_first_stage_trains_the_second_again_and_other_folds_are_refused(repository: Repository) -> None:
    params = repository.params
    params["workspaces"]["ball"]["split"]["seed"] = 8
    repository.set_params(params)
    result = repository.run("dvc", "repro", "train_fold@ball-1", check=False)
    assert result.returncode != 0
    assert re.search(r"previous ball: error: .*(held out by|has seen)", result.stdout + result.stderr)
