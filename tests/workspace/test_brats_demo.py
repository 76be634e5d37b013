"""The synthetic brain workspace, as its page makes it: from DICOM series to overlapping DICOM SEG by DVC."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
import pytest

from tests.dag.repository import Repository
from tests.tables import read_table

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE = "brats_demo"
REGIONS = ("whole tumour", "tumour core", "enhancing tumour")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # two minutes on two free cores


def make_demo(root: Path, *arguments: str) -> tuple[Repository, dict[str, Any]]:
    """A repository with the sample and its workspace alone, and the workspace's block as ``voxflow new`` wrote it."""
    repository = Repository.copy_to(root)
    params = repository.params | {"workspaces": {}}
    params["samples"] = {WORKSPACE: {"kind": "brain_mr", "patients": 16, "seed": 7}}
    repository.set_params(params)
    repository.run("dvc", "repro", f"sample@{WORKSPACE}")
    repository.run("voxflow", "new", WORKSPACE, "--source", f"data/raw/{WORKSPACE}", *arguments)
    block: dict[str, Any] = repository.params["workspaces"][WORKSPACE]
    block["convert"]["pseudonym_key"] = "synthetic"
    block["split"] |= {"testing": 0.25, "validation": 0.2}
    return repository, block


def repro(repository: Repository, block: dict[str, Any]) -> None:
    repository.set_params(repository.params | {"workspaces": {WORKSPACE: block}})
    repository.run("dvc", "repro", f"report@{WORKSPACE}")


def read_segments(path: Path) -> dict[str, Any]:
    """The mask of each segment by its label, by highdicom."""
    seg = highdicom.seg.segread(path)
    masks = seg.get_volume(combine_segments=False).array
    names = [seg.get_segment_description(number).segment_label for number in seg.segment_numbers]
    return dict(zip(names, np.moveaxis(masks, -1, 0).astype(bool), strict=True))


def test_regions_are_learnt_from_series_and_come_back_as_overlapping_segments(tmp_path: Path) -> None:
    repository, block = make_demo(tmp_path, "--template", "auto")
    assert list(block["convert"]["channels"]) == ["T1", "T1c", "T2", "FLAIR"]
    assert block["convert"]["overlap"] == "regions"
    del block["train"]["max_minutes"], block["train"]["schedule"]
    block["train"]["set"] = {"epochs": 100, "num_training_epoch_per_valid": 25}
    repro(repository, block)
    numbers = json.loads(repository.read(f"data/metrics/{WORKSPACE}/evaluate.json"))
    assert np.mean([numbers[f"dice_{name}"] for name in REGIONS]) >= 0.85
    folder = tmp_path / "mmars" / WORKSPACE / "eval" / "infer"
    rows = read_table(folder / "preds_outputs.csv")
    assert len(rows) == 2
    for row in rows:
        masks = read_segments(next((folder / row["case"]).glob("*.dcm")))
        assert set(masks) == set(REGIONS)
        whole, core, enhancing = (masks[name] for name in REGIONS)
        assert 0 < (enhancing & core).sum() <= (core & whole).sum() < whole.sum()
    conversion = read_table(tmp_path / "data" / "volumes" / WORKSPACE / "conversion.csv")
    lacking = [row for row in conversion if row["verdict"] == "quarantined"]
    assert len(lacking) == 3
    assert all("lacks the channel FLAIR" in row["reason"] for row in lacking)


def test_zoos_brain_model_goes_through_the_stages_and_names_its_regions(tmp_path: Path) -> None:
    repository, block = make_demo(tmp_path, "--template", "brain_br16_full", "--variant", "cpu")
    block["resample"]["spacing_mm"] = [4.0, 4.0, 6.0]
    size = [32, 32, 24]
    block["train"]["set"] |= {
        "epochs": 20,
        "num_training_epoch_per_valid": 20,
        "train.model.args.init_filters": 4,
        "train.pre_transforms[4].args.size": size,
        "train.image_pipeline.args.output_crop_size": size,
        "validate.inferer.args.roi_size": size,
    }
    block["export"] = {"engines": ["torchscript"]}
    repro(repository, block)
    numbers = json.loads(repository.read(f"data/metrics/{WORKSPACE}/evaluate.json"))
    assert {"dice_TC", "dice_WT", "dice_ET"} <= numbers.keys()
    assert numbers["dice_WT"] > 0.2
    folder = tmp_path / "mmars" / WORKSPACE / "eval" / "infer"
    for row in read_table(folder / "preds_outputs.csv"):
        assert set(read_segments(next((folder / row["case"]).glob("*.dcm")))) <= {"TC", "WT", "ET"}
