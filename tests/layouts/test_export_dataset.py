"""``voxflow export-dataset`` writes a workspace's cases for others' tools, and Voxflow reads back the same."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.layouts.exported import KINDS, ODD_NAMES, Kind, convert, make_workspace, read_cases, write_splits
from voxflow.cli.main import main
from voxflow.errors import DataError
from voxflow.tables import read_rows

NNUNET_FOLDER, MSD_FOLDER = Path("data/datasets/Dataset001_mine"), Path("data/datasets/Task01_mine")
FOLDERS = {"nnunet": NNUNET_FOLDER, "msd": MSD_FOLDER}
VOLUMES = Path("data/volumes/mine")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_cases() -> list[str]:
    """The ids of the workspace's cases, in the order of the table."""
    return [row["case"] for row in read_rows(VOLUMES / "cases.csv") or []]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FOLDERS)
def test_round_trip_loses_nothing(root: Path, form: str, kind: str) -> None:
    make_workspace(root, KINDS[kind])
    assert main(["export-dataset", "mine", "--to", form]) == 0
    convert(FOLDERS[form], root / "again", form)
    before, after = read_cases(VOLUMES), read_cases(root / "again")
    assert list(after) == list(before)
    assert len(after) == len(ODD_NAMES)
    for name, case in before.items():
        for array, expected in zip(after[name].arrays, case.arrays, strict=True):
            np.testing.assert_array_equal(array, expected)
        for affine, grid in zip(after[name].affines, case.affines, strict=True):
            np.testing.assert_allclose(affine, grid, atol=1e-4)
        np.testing.assert_array_equal(after[name].label, case.label)
    assert read_json(root / "again/labels.json") == read_json(VOLUMES / "labels.json")
    forms = [folder / "case_form.json" for folder in (VOLUMES, root / "again")]
    assert [path.exists() for path in forms] == [kind != "one channel"] * 2
    if forms[0].exists():
        assert read_json(forms[1]) == read_json(forms[0])


def test_nnunet_gets_consecutive_values_and_is_told_what_they_were(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_workspace(root, KINDS["gaps"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    content = read_json(NNUNET_FOLDER / "dataset.json")
    assert content["labels"] == {"background": 0, "Leber & Milz": 1, "7": 2, "tumour": 3}
    assert content["voxflow"]["label_values"] == {"1": 3, "2": 255, "3": 300}
    assert "3 → 1, 255 → 2, 300 → 3" in capsys.readouterr().err
    name = list_cases()[0]
    label = np.asanyarray(nibabel.load(NNUNET_FOLDER / f"labelsTr/{name}.nii.gz").dataobj)
    original = np.asanyarray(nibabel.load(VOLUMES / f"labels/{name}.nii.gz").dataobj)
    np.testing.assert_array_equal(label, np.searchsorted([0, 3, 255, 300], original))


def test_nnunet_gets_regions_in_the_order_that_it_paints_them(root: Path) -> None:
    make_workspace(root, KINDS["regions"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    content = read_json(NNUNET_FOLDER / "dataset.json")
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
    assert list(content["labels"].items()) == list(labels.items())
    assert content["regions_class_order"] == [2, 1, 3]
    assert content["channel_names"] == {"0": "T1", "1": "T1 c", "2": "FLAIR"}


def test_nnunet_gets_regions_without_values_that_no_label_holds(root: Path) -> None:
    """As of masks that lie in each other: no voxel is core alone, so the core must be a part of the whole."""
    labels = {"whole": [1, 4, 5], "core": [2, 4, 5], "enhancing": [3, 5]}
    make_workspace(root, Kind(("T1",), labels, (0, 1, 4, 5), {"regions_class_order": [1, 2, 3]}))
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    content = read_json(NNUNET_FOLDER / "dataset.json")
    assert content["labels"] == {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert content["regions_class_order"] == [1, 2, 3]
    convert(NNUNET_FOLDER, root / "again", "nnunet")
    assert read_json(root / "again/case_form.json") == {"regions": labels}


@pytest.mark.parametrize("labels", [{"background": 0, "liver": 1}, {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}])
def test_labels_that_were_changed_since_are_not_read_by_old_notes(root: Path, labels: dict[str, int]) -> None:
    make_workspace(root, KINDS["gaps"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    path = NNUNET_FOLDER / "dataset.json"
    path.write_text(json.dumps(read_json(path) | {"labels": labels}))
    with pytest.raises(DataError, match="voxflow: does not fit the labels any more; take it out"):
        convert(NNUNET_FOLDER, root / "again", "nnunet")


def test_classes_that_cross_each_other_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["crossing regions"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    remark = "nnU-Net learns each region, but its masks show one a voxel, never liver, value 3"
    assert remark in capsys.readouterr().err


def test_nnunet_gets_the_value_to_ignore_as_the_highest(root: Path) -> None:
    make_workspace(root, KINDS["ignore"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    content = read_json(NNUNET_FOLDER / "dataset.json")
    assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}


def test_name_of_a_single_channel_is_that_of_the_source(root: Path) -> None:
    make_workspace(root, KINDS["one channel"])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    assert read_json(NNUNET_FOLDER / "dataset.json")["channel_names"] == {"0": "CT"}


def test_files_whose_bytes_can_stay_are_not_copied(root: Path) -> None:
    make_workspace(root, KINDS["one channel"])
    name = list_cases()[0]
    assert main(["export-dataset", "mine", "--to", "msd"]) == 0
    for folder in ("images", "labels"):
        original = VOLUMES / folder / f"{name}.nii.gz"
        assert (MSD_FOLDER / f"{folder}Tr/{name}.nii.gz").samefile(original)


def test_split_and_folds_are_those_of_the_workspace(root: Path) -> None:
    make_workspace(root, KINDS["one channel"])
    a, b, c, d, e = list_cases()
    rest = {e: "testing", d: "training"}
    folds = [{a: "validation", b: "training", c: "training"}, {a: "training", b: "validation", c: "training"}]
    write_splits(root, folds[0] | rest, *[fold | rest for fold in folds])
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    splits = read_json(NNUNET_FOLDER / "splits_final.json")
    assert [(set(split["train"]), set(split["val"])) for split in splits] == [({b, c, d}, {a}), ({a, c, d}, {b})]
    assert [path.name for path in (NNUNET_FOLDER / "imagesTs").iterdir()] == [f"{e}_0000.nii.gz"]
    assert main(["export-dataset", "mine", "--to", "msd"]) == 0
    content = read_json(MSD_FOLDER / "dataset.json")
    names = {
        part: {Path(item["image"]).name.removesuffix(".nii.gz") for item in content[part]}
        for part in ("training", "validation", "test")
    }
    assert names == {"training": {b, c, d}, "validation": {a}, "test": {e}}
    assert content["numTraining"] == 3


def test_cases_of_one_patient_stay_together(root: Path) -> None:
    make_workspace(root, KINDS["one channel"])
    path = VOLUMES / "cases.csv"
    rows = read_rows(path) or []
    path.write_text(path.read_text().replace(f",{rows[1]['patient']},", f",{rows[0]['patient']},"))
    for form, folder in FOLDERS.items():
        assert main(["export-dataset", "mine", "--to", form]) == 0
        convert(folder, root / form, form)
        patients = {row["case"]: row["patient"] for row in read_rows(root / form / "cases.csv") or []}
        assert patients[rows[0]["case"]] == patients[rows[1]["case"]]
        assert len(set(patients.values())) == len(ODD_NAMES) - 1


def test_folder_with_something_else_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    (root / "there").mkdir()
    (root / "there/notes.txt").write_text("mine")
    assert main(["export-dataset", "mine", "--to", "nnunet", "--output", "there"]) == 2
    assert "there: the folder is not empty" in capsys.readouterr().err
    assert [path.name for path in (root / "there").iterdir()] == ["notes.txt"]


def test_cases_that_the_split_lacks_are_left_out_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    first, second, third, *rest = list_cases()
    write_splits(root, {first: "training", second: "validation", third: "training", "gone": "training"})
    for form in FOLDERS:
        assert main(["export-dataset", "mine", "--to", form]) == 3
        assert f"left out 2 case(s) that the split does not have: {', '.join(rest)}" in capsys.readouterr().err
    assert read_json(NNUNET_FOLDER / "dataset.json")["numTraining"] == 3
    assert read_json(NNUNET_FOLDER / "splits_final.json") == [{"train": [first, third], "val": [second]}]


def test_cases_that_are_labelled_in_part_are_left_out_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["gaps"])
    path, name = VOLUMES / "cases.csv", list_cases()[1]
    lines = path.read_text().splitlines()
    lines = [f"{line},{text}" for line, text in zip(lines, ("labelled", "", "tumour", "", "", ""), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 3
    remark = "left out 1 case(s) of which some classes were not labelled, and neither layout can say so"
    assert f"{remark}: {name}" in capsys.readouterr().err
    assert not list(NNUNET_FOLDER.rglob(f"{name}*"))


@pytest.mark.parametrize("name", ["../../elsewhere", "", "case"])
def test_case_whose_name_is_none_writes_nothing(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    path, first = VOLUMES / "cases.csv", list_cases()[0]
    path.write_text(path.read_text().replace(f"\n{first},", f"\n{name},"))
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 2
    assert f"cases.csv: case: {name!r} names no case, or two" in capsys.readouterr().err
    assert not Path("data/datasets").exists()


def test_overlaps_that_are_not_in_the_labels_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    path = VOLUMES / "cases.csv"
    path.write_text(path.read_text().replace(",nifti,,", ",dicom,channels/a/1.nii.gz,", 1))
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 0
    assert "overlaps are in the masks of overlap: channels alone" in capsys.readouterr().err


def test_case_without_one_of_its_channels_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["gaps"])
    path, name = VOLUMES / "cases.csv", list_cases()[0]
    path.write_text(path.read_text().replace(f";images/{name}_0001.nii.gz", ""))
    assert main(["export-dataset", "mine", "--to", "msd"]) == 2
    assert f"{name}: has 1 image(s), expected CT, PET" in capsys.readouterr().err


def test_folder_of_a_stage_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    assert main(["export-dataset", "mine", "--to", "nnunet", "--output", "data/volumes/mine/export"]) == 2
    assert "belongs to a stage" in capsys.readouterr().err


def test_cases_without_a_label_go_to_the_test_part(root: Path) -> None:
    make_workspace(root, KINDS["gaps"])
    names = list_cases()
    path = VOLUMES / "cases.csv"
    for name in names[1:3]:
        path.write_text(path.read_text().replace(f"labels/{name}.nii.gz", ""))
    for form, folder in FOLDERS.items():
        assert main(["export-dataset", "mine", "--to", form]) == 0
        convert(folder, root / form, form)
        after = read_cases(root / form)
        assert list(after) == names
        assert [name for name in names if not after[name].label.size] == names[1:3]


@pytest.mark.parametrize("content", ['{"one": "spleen"}', "[]", '{"0": "background", "1": "x", "3": "x"}'])
def test_names_that_are_none_are_refused(root: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_workspace(root, KINDS["one channel"])
    (VOLUMES / "labels.json").write_text(content)
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 2
    assert "labels.json: " in capsys.readouterr().err


@pytest.mark.parametrize("form", FOLDERS)
@pytest.mark.parametrize("ending", [".nii", ".mha", ".mhd", ".nrrd"])
def test_volumes_of_every_format_are_written(root: Path, form: str, ending: str) -> None:
    make_workspace(root, KINDS["gaps"])
    original = read_cases(VOLUMES)
    convert(root / "raw", VOLUMES, "nnunet", volume_format=ending)
    assert main(["export-dataset", "mine", "--to", form]) == 0
    convert(FOLDERS[form], root / "again", form)
    after = read_cases(root / "again")
    for name, case in original.items():
        for array, expected in zip(after[name].arrays, case.arrays, strict=True):
            np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(after[name].label, case.label)
        np.testing.assert_allclose(after[name].affines[0], case.affines[0], atol=1e-4)


def test_all_cases_that_can_not_be_written_are_named_and_nothing_is_left(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_workspace(root, KINDS["gaps"])
    names = list_cases()
    label = VOLUMES / f"labels/{names[0]}.nii.gz"
    image = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 9, np.uint8), image.affine), label)
    (VOLUMES / f"images/{names[1]}_0001.nii.gz").write_bytes((VOLUMES / f"images/{names[2]}_0001.nii.gz").read_bytes())
    assert main(["export-dataset", "mine", "--to", "nnunet"]) == 2
    said = capsys.readouterr().err
    assert "2 case(s) can't be written" in said
    assert "label values [9] have no name" in said
    assert f"its grid is not that of {names[1]}_0000.nii.gz" in said
    assert list(Path("data/datasets").iterdir()) == []


def test_workspace_of_radiographs_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = {"task": "classification", "source": "raw"}
    (root / "params.yaml").write_text(json.dumps({"workspaces": {"mine": block}}))
    assert main(["export-dataset", "mine", "--to", "msd"]) == 2
    assert "the workspace's task is classification" in capsys.readouterr().err


def test_workspace_that_is_not_converted_is_told_what_to_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = {"task": "segmentation", "source": "raw"}
    (root / "params.yaml").write_text(json.dumps({"workspaces": {"mine": block}}))
    assert main(["export-dataset", "mine", "--to", "msd", "--from", "resampled"]) == 2
    assert "run: dvc repro resample@mine" in capsys.readouterr().err


def run_check(python: Path, folders: list[Path]) -> subprocess.CompletedProcess[str]:
    """Run nnU-Net's check of data sets, in its own environment."""
    program = (
        "import sys; from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity\n"
        "for folder in sys.argv[1:]: verify_dataset_integrity(folder, 1)"
    )
    command = [str(python), "-c", program, *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": ""})


@pytest.mark.slow
def test_check_of_nnunet_itself_accepts_the_data_sets(
    root: Path, monkeypatch: pytest.MonkeyPatch, nnunet_python: Path
) -> None:
    for number, kind in enumerate(KINDS.values()):
        (root / str(number)).mkdir()
        monkeypatch.chdir(root / str(number))
        make_workspace(root / str(number), kind)
        assert main(["export-dataset", "mine", "--to", "nnunet", "--output", str(root / f"Dataset00{number}_x")]) == 0
    folders = sorted(root.glob("Dataset*"))
    result = run_check(nnunet_python, folders)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("verify_dataset_integrity Done") == len(KINDS)
    assert not {"Error", "WARNING", "Warning"} & set(result.stdout.replace(":", " ").split())
    # The same check refuses a label with a value that dataset.json does not name.
    label = next((folders[0] / "labelsTr").iterdir())
    image = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 9, np.uint8), image.affine), label)
    result = run_check(nnunet_python, folders[:1])
    assert result.returncode != 0
    assert "Unexpected labels" in result.stdout
