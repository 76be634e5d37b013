"""The DAG ends with real images, in workspaces made as the documentation says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from tests.dag.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTES = 6  # of training where a template goes by them; the machine may have other work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.copy_to(tmp_path_factory.mktemp("repository"))


def run(repository: Repository, name: str, source: Path, template: str, **split: Any) -> dict[str, float]:
    repository.run("voxflow", "new", name, "--source", str(source), "--template", template)
    params = repository.params
    params["workspaces"][name]["split"] |= split
    if template == "auto":
        params["workspaces"][name]["train"]["max_minutes"] = MINUTES
    repository.set_params(params)
    # Pseudonyms decide the split, so that a key that is made afresh would draw other patients each time.
    repository.run("dvc", "repro", f"report@{name}", env={"VOXFLOW_PSEUDONYM_KEY": "the same split every time"})
    return dict(json.loads(repository.read(f"data/metrics/{name}/evaluate.json")))


def test_hippocampus_from_nifti(repository: Repository, real_data: Callable[[str], Path]) -> None:
    scores = run(repository, "hippocampus", real_data("hippocampus"), "segmentation_mr", testing=20, validation=8)
    assert scores["cases"] == 20
    assert scores["mean_dice"] >= 0.86


def test_hippocampus_without_a_configuration(repository: Repository, real_data: Callable[[str], Path]) -> None:
    scores = run(repository, "hippocampus_auto", real_data("hippocampus"), "auto", testing=20, validation=8)
    assert scores["dice_label_1"] >= 0.90
    assert scores["dice_label_2"] >= 0.87
    planned = json.loads(repository.read("mmars/hippocampus_auto/models/train/plan.json"))
    assert planned["layout"]["patch"] == [40, 56, 40]


def test_sarcoma_from_pet_and_rtstruct_beats_a_threshold(
    repository: Repository, real_data: Callable[[str], Path]
) -> None:
    scores = run(repository, "sarcoma", real_data("pet_sarcoma") / "dicom", "segmentation_pet")
    assert scores["cases"] == 3
    assert scores["mean_dice"] > 0.61  # a fixed threshold of SUV 2.0 over all 16
    params = repository.params
    params["workspaces"]["sarcoma"]["infer"] |= {"key": "testing", "dicom_seg": True}
    repository.set_params(params)
    repository.run("dvc", "repro", "--single-item", "infer@sarcoma")
    paths = list((repository.root / "mmars/sarcoma/eval/infer").glob("*/*.dcm"))
    assert [pydicom.dcmread(path).Modality for path in paths] == ["SEG"] * 3


def test_pneumonia_from_png_in_one_folder_a_class(repository: Repository, real_data: Callable[[str], Path]) -> None:
    scores = run(repository, "pneumonia", real_data("chestxray"), "classification")
    # Twenty images of a hundred say that the way is open, not how good the model is.
    assert scores["cases"] >= 15
    assert scores["failed_cases"] == 0
    assert "auc_pneumonia" in scores
