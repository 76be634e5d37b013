"""Folders of weights as TotalSegmentator has them, and the names of their classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.adopt.folders import make_dataset, make_plans, write_checkpoint, write_folder
from tests.adopt.test_nnunet import make_weights
from voxflow.adopt import read_nnunet, rename_classes, write_adopted
from voxflow.cli.main import main
from voxflow.errors import DataError
from voxflow.prediction import PredictOptions
from voxflow.training import load_model

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = '''
"""Not to be run."""
import shutil
shutil.rmtree("nowhere")
class_map = {
    "total": {1: "spleen", 2: "kidney_right", 3: "kidney_left"},
    "organs": {1: "spleen", 2: "kidney_right"},
    "body": {1: "body_trunc", 2: "body_extremities"},
    # 1: an auxiliary class
    "effusion": {2: "pleural_effusion"},
}
computed = {n: str(n) for n in range(3)}
class_map_5_parts = {"class_map_part_ribs": {1: "rib_left_1", 2: "rib_left_2", 3: "rib_left_3", 4: "rib_left_4"}}
'''


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The folder of weights of two data sets, whose classes have numbers for names."""
    root = tmp_path / "results"
    trainer = "nnUNetTrainer_4000epochs_NoMirroring"
    labels = {"background": 0, "class_1": 1, "class_2": 2}
    for name in ("Dataset291_organs", "Dataset292_vertebrae"):
        plans = make_plans(reader="NibabelIOWithReorient", spacing=(1.5, 1.5, 1.5))
        folder = write_folder(root / name / f"{trainer}__nnUNetPlans__3d_fullres", plans, make_dataset(labels))
        content = make_weights(folder)
        write_checkpoint(folder / "fold_0/checkpoint_final.pth", content, mirrored=None, trainer_name=trainer)
    return root


def test_a_sub_model_is_adopted_with_the_names_of_a_map(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map_to_binary.py").write_text(PROGRAM)
    assert main(["adopt", str(weights), "--name", "organs"]) == 2
    assert (
        "Dataset291_organs/nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres, " in capsys.readouterr().err
    )
    arguments = ["adopt", str(weights / "Dataset291_organs"), "--name", "organs"]
    assert main([*arguments, "--classes", "map_to_binary.py"]) == 2
    assert "2 of 5 class maps have 2 classes; name one as FILE:NAME, such as organs, body" in capsys.readouterr().err
    assert main([*arguments, "--classes", "map_to_binary.py:organs"]) == 0
    _, spec = load_model(tmp_path / "organs/models/model.pt")
    assert spec.class_names == ("background", "spleen", "kidney_right")
    assert PredictOptions().list_flips(spec) == ()
    assert spec.orientation == "RAS"


def test_maps_of_other_forms_and_with_gaps_are_read(weights: Path, tmp_path: Path) -> None:
    model = read_nnunet(weights / "Dataset291_organs")
    (tmp_path / "names.json").write_text(json.dumps({"0": "background", "1": "liver", "2": "tumour"}))
    assert rename_classes(model, str(tmp_path / "names.json")).spec.class_names == ("background", "liver", "tumour")
    (tmp_path / "names.yaml").write_text("2: tumour\n")
    renamed = rename_classes(model, str(tmp_path / "names.yaml"))
    assert renamed.spec.class_names == ("background", "class_1", "tumour")
    write_adopted(renamed, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt")[1] == renamed.spec


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"3": "spleen"}', "names the label value 3; the model has 1 to 2"),
        ("a.json", '{"spleen": 1}', "no class map"),
        ("a.json", '{"1": ""}', "no class map"),
        ("a.json", '{"1": ', "a.json"),
        ("a.yaml", "- spleen\n", "no class map"),
        ("a.py", "class_map = {1: open('x')}", "no class map"),
        ("a.py", "class_map = {", "no Python file that can be parsed"),
        ("a.py", PROGRAM, "2 of 5 class maps have 2 classes"),
        ("a.py:other", PROGRAM, "no class map 'other'; there are total, organs, body, effusion, class_map_part_ribs"),
        ("a.py:total", PROGRAM, "total: names the label value 3"),
        ("b.json", "", "file not found"),
    ],
)
def test_maps_that_do_not_fit_are_refused(name: str, content: str, message: str, weights: Path, tmp_path: Path) -> None:
    model = read_nnunet(weights / "Dataset291_organs")
    if not name.startswith("b"):
        (tmp_path / name.partition(":")[0]).write_text(content)
    with pytest.raises(DataError, match=message) as failure:
        rename_classes(model, str(tmp_path / name))
    assert "\n" not in str(failure.value)


def test_regions_take_no_class_map(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    folder = write_folder(tmp_path / "model", make_plans(), make_dataset(labels, order=(1, 2)))
    write_checkpoint(folder / "fold_0/checkpoint_final.pth", make_weights(folder))
    (tmp_path / "names.json").write_text('{"1": "organ"}')
    with pytest.raises(DataError, match="the model's classes overlap"):
        rename_classes(read_nnunet(folder), str(tmp_path / "names.json"))
