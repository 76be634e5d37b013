"""``voxflow new`` tells the layout of the source, before anything is copied."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.layouts.datasets import LAYOUTS, make_patients, write_array
from tests.workspace.conftest import read_convert_block
from voxflow.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_stands_in_the_block(root: Path, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    count, write = LAYOUTS[layout]
    write(root / "raw", make_patients(count))
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    block = read_convert_block(root)
    assert block["layout"] == layout
    assert block.get("overlap") == ("regions" if layout in {"masks", "totalsegmentator", "slicer"} else None)
    said = capsys.readouterr().err
    assert "3 cases of 3 patients" in said
    assert "classes: " in said


def test_rows_that_make_no_case_are_counted_before_anything_is_copied(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    LAYOUTS["table"][1](root / "raw", make_patients(2))
    (root / "raw/store/1/0.nii.gz").unlink()
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    said = capsys.readouterr().err
    assert "  2 cases of 2 patients" in said
    assert "1 row(s) of paths.csv make no case: line 3, column image:T1w: 'store/1/0.nii.gz' is not there" in said


def test_plain_pairs_have_no_layout(root: Path) -> None:
    image = make_patients(1)[0].images[0]
    write_array(root / "raw" / "images" / "a.nii.gz", image)
    write_array(root / "raw" / "labels" / "a.nii.gz", (image > 0).astype("uint8"))
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 0
    assert read_convert_block(root) == {"modalities": ["CT"]}


@pytest.mark.parametrize(("folder", "testing"), [("Ts", "dataset"), ("Tr", 0.2)])
def test_pairs_of_a_test_part_stand_in_the_block(root: Path, folder: str, testing: str | float) -> None:
    image = make_patients(1)[0].images[0]
    for name, part in (("a", "Tr"), ("b", folder)):
        write_array(root / "raw" / f"images{part}" / f"{name}.nii.gz", image)
        write_array(root / "raw" / f"labels{part}" / f"{name}.nii.gz", (image > 0).astype("uint8"))
    assert main(["new", "mine", "--source", "raw", "--template", "segmentation_ct"]) == 0
    assert yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]["split"]["testing"] == testing


def test_layout_none_pairs_by_names(root: Path) -> None:
    LAYOUTS["nnunet"][1](root / "raw", make_patients(2))
    assert main(["new", "mine", "--source", "raw", "--template", "auto", "--layout", "none"]) == 0
    assert "layout" not in read_convert_block(root)


def test_wrong_layout_makes_no_workspace(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAYOUTS["nnunet"][1](root / "raw", make_patients(2))
    assert main(["new", "mine", "--source", "raw", "--layout", "brats"]) == 2
    assert "raw: does not look like a BraTS data set" in capsys.readouterr().err
    assert not (root / "mmars").exists()


def test_names_of_label_values_lie_beside_the_images(root: Path) -> None:
    image = make_patients(1)[0].images[0]
    write_array(root / "raw" / "images" / "a.nii.gz", image)
    write_array(root / "raw" / "labels" / "a.nii.gz", (image > 0).astype("uint8"))
    (root / "raw" / "readme.txt").write_bytes(b"\xff\xfe notes")
    (root / "raw" / "snap.txt").write_text('1 255 0 0 1 1 1 "left \\ kidney"\n')
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    assert read_convert_block(root) == {"labels": {"left \\ kidney": 1}}


@pytest.mark.parametrize("has_labels", [True, False])
def test_a_labelled_test_part_of_the_data_set_stands_in_the_block(root: Path, has_labels: bool) -> None:
    LAYOUTS["nnunet"][1](root / "raw", make_patients(LAYOUTS["nnunet"][0]))
    folder = root / "raw" / "Dataset001_TUMOUR"
    if not has_labels:
        shutil.rmtree(folder / "labelsTs")
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 0
    split = yaml.safe_load((root / "params.yaml").read_text())["workspaces"]["mine"]["split"]
    assert split["testing"] == ("dataset" if has_labels else 0.2)


def test_description_that_is_wrong_tells_the_way_without_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAYOUTS["nnunet"][1](root / "raw", make_patients(2))
    for image in (root / "raw").rglob("images*/*"):
        image.unlink()
    assert main(["new", "mine", "--source", "raw", "--template", "auto"]) == 2
    assert "no image is there" in (said := capsys.readouterr().err)
    assert "--layout none pairs images and labels by their names" in said
