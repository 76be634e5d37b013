"""``voxflow adopt``: a workspace of a result folder, compared with masks, and what its stages make of it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from tasks import train as train_stage
from tasks.common import adopted
from tasks.common.folds import FoldStage
from tasks.common.stage import Stage
from tests.adopt.folders import write_image
from tests.adopt.test_nnunet import write_model
from voxflow.adopt import compare_with_original, read_nnunet, write_adopted
from voxflow.cli.main import main
from voxflow.engines import open_engine
from voxflow.errors import ConfigError
from voxflow.export import ExportOptions, export_model
from voxflow.files import write_json
from voxflow.inference import InferenceCase
from voxflow.places import read_workspaces
from voxflow.prediction import predict_volume
from voxflow.reporting import ReportOptions, ReportSources, write_report
from voxflow.tracking import NullTracker
from voxflow.volumes import read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (18, 20, 8)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a result folder, an image and the mask of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("# all settings\nworkspaces: {}\n")
    write_model(tmp_path / "results")
    write_adopted(read_nnunet(tmp_path / "results"), tmp_path / "model.pt")
    file = write_image(tmp_path / "images/liver_1_0000.nii.gz", size=SIZE)
    mask = predict_volume(open_engine(tmp_path / "model.pt", "torch"), read_volume(file)).mask
    (tmp_path / "masks").mkdir()
    write_volume(tmp_path / "masks/liver_1.nii.gz", mask)
    return tmp_path


def adopt(*flags: str) -> int:
    return main(["adopt", "results", "--name", "liver", *flags])


def test_a_workspace_is_made_once_its_masks_are_those_of_the_original(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt("--images", "images", "--masks", "masks") == 0
    said = capsys.readouterr().err
    assert "liver_1: 0 of 2880 voxels differ" in said
    block = read_workspaces()["liver"]
    assert (block["kind"], block["task"], block["source"]) == ("adopted", "segmentation", "data/raw/liver")
    assert block["convert"] == {"modalities": ["CT"]}
    record = (house / "mmars/liver/config/adopted.json").read_text()
    assert json.loads(record)["least_equal_share"] == 1
    assert "liver_1" not in record, "names of cases may be those of patients"
    assert main(["check", "liver"]) == 0
    assert adopt() == 2
    assert "exists already" in capsys.readouterr().err


def test_other_masks_are_no_adoption(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = house / "masks/liver_1.nii.gz"
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    array[0] = 1 - np.minimum(array[0], 1)
    other = sitk.GetImageFromArray(array)
    other.CopyInformation(image)
    sitk.WriteImage(other, str(file))
    assert adopt("--images", "images", "--masks", "masks") == 1
    said = capsys.readouterr().err
    assert "the masks are not those of the original: liver_1: 360 of 2880 voxels differ" in said
    assert not (house / "mmars").exists()
    assert adopt("--images", "images", "--masks", "masks", "--least-equal", "0.5") == 0


def test_masks_of_another_case_and_lost_images_are_named(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(house / "images/liver_1_0000.nii.gz", size=(18, 20, 9))
    assert adopt("--images", "images", "--masks", "masks") == 1
    said = capsys.readouterr().err
    assert "liver_1: its mask lies on another grid" in said
    assert "it is of another case" in said
    (house / "images/liver_1_0000.nii.gz").unlink()
    assert adopt("--images", "images", "--masks", "masks") == 1
    assert "no image liver_1_0000.nii.gz" in capsys.readouterr().err
    assert adopt("--images", "nowhere", "--masks", "masks") == 2
    assert adopt("--masks", "masks") == 2
    assert not (house / "mmars").exists()


def test_one_bad_case_does_not_stop_the_others(house: Path) -> None:
    write_image(house / "images/broken_0000.nii.gz", size=SIZE)
    (house / "masks/broken.nii.gz").write_bytes(b"nothing")
    engine = open_engine(house / "model.pt", "torch")
    cases = list(compare_with_original(engine, house / "images", house / "masks", ".nii.gz"))
    assert [(case.case, bool(case.reason)) for case in cases] == [("broken", True), ("liver_1", False)]


def test_outside_of_a_repository_the_folder_stands_alone(house: Path) -> None:
    (house / "params.yaml").unlink()
    assert adopt() == 0
    assert open_engine(house / "liver/models/model.pt", "torch").spec.nnunet is not None
    assert main(["infer", "liver", "--images", "images", "--out", "out"]) == 0
    masks = list((house / "out").rglob("*.nii.gz"))
    assert len(masks) == 1
    expected = read_volume(house / "masks/liver_1.nii.gz").array
    np.testing.assert_array_equal(read_volume(masks[0]).array, expected)


def test_engines_of_the_exported_model_give_the_same_masks(house: Path) -> None:
    case = InferenceCase("liver_1", (house / "images/liver_1_0000.nii.gz",))
    report = export_model(house / "model.pt", house / "exported", ExportOptions(engines=("onnx", "openvino")), [case])
    report.require_published()
    volume = read_volume(house / "images/liver_1_0000.nii.gz")
    expected = read_volume(house / "masks/liver_1.nii.gz").array
    for name in ("onnxruntime", "openvino"):
        mask = predict_volume(open_engine(house / "exported", name), volume).mask
        assert (mask.array == expected).mean() >= 0.999, name


def test_the_stage_train_copies_the_model(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert adopt() == 0
    monkeypatch.setattr(adopted, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("run1")))
    write_json(house / "data/datalists/liver/dataset_0.json", {"training": [], "validation": []})
    block: dict[str, Any] = read_workspaces()["liver"]
    assert train_stage.run(Stage("liver", "train", block)) == 0
    models = house / "mmars/liver/models"
    assert open_engine(models / "train/model.pt", "torch").spec.class_names == ("background", "liver", "tumour")
    assert (models / "curves.csv").read_text() == "epoch,train_loss\n"
    write_report(
        ReportSources.of(Stage("liver", "report", block)), house / "r.html", house / "card.md", ReportOptions()
    )
    card = (house / "card.md").read_text()
    assert "| trained elsewhere | nnU-Net v2, 3d_fullres, nnUNetTrainer |" in card
    assert "unknown; none by this workspace" in card
    with pytest.raises(ConfigError, match="no fold can hold out cases"):
        train_stage.run(FoldStage("liver", "train", block, 1))
    with pytest.raises(ConfigError, match="not trained here"):
        train_stage.run(Stage("liver", "train", {**block, "train": {"seed": 1}}))
    (house / "mmars/liver/config/adopted.pt").write_bytes(b"nothing")
    assert main(["check", "liver"]) == 2
