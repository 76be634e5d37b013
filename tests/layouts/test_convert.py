"""One data set, written in every known layout, converts to the same cases, voxels and regions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.layouts.datasets import (
    LAYOUTS,
    REGIONS,
    TWO,
    Patient,
    make_patients,
    write_array,
    write_listing,
    write_nnunet,
    write_slicer,
)
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images import list_files, merge_masks, read_channel_rules
from voxflow.layouts import recognise_layout
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def convert(source: Path, target: Path, layout: str, **options: Any) -> dict[str, dict[str, str]]:
    """Convert a folder of a layout; gives the rows of cases.csv by case."""
    block = {"layout": layout, "keep_names": True, "pseudonym_key": "k", "mapping": False, "workers": 1, **options}
    convert_folder(source, target, ConvertOptions.model_validate(block))
    return {row["case"]: row for row in read_rows(target / "cases.csv") or []}


def find_row(cases: dict[str, dict[str, str]], patient: Patient) -> dict[str, str]:
    """The row of a patient's case."""
    return next(row for case, row in cases.items() if patient.name in case)


def list_reasons(target: Path) -> list[str]:
    """The reasons of conversion.csv."""
    return [row["reason"] for row in read_rows(target / "conversion.csv") or []]


def read_array(path: Path) -> NDArray[Any]:
    """Read a volume by nibabel, an independent reader."""
    return np.asanyarray(nibabel.load(path).dataobj)


def read_form(folder: Path) -> dict[str, Any]:
    """Read case_form.json."""
    content: dict[str, Any] = json.loads((folder / "case_form.json").read_text())
    return content


@pytest.mark.parametrize("layout", LAYOUTS)
def test_voxels_are_those_of_the_data_set(tmp_path: Path, layout: str) -> None:
    count, write = LAYOUTS[layout]
    patients = make_patients(count)
    write(tmp_path / "in", patients)
    cases = convert(tmp_path / "in", tmp_path / "out", layout)
    assert len(cases) == len(patients)
    channels = read_form(tmp_path / "out").get("channels", ["image"]) if count > 1 else ["image"]
    for patient in patients:
        names = find_row(cases, patient)["image"].split(";")
        arrays = dict(zip(channels, (read_array(tmp_path / "out" / name) for name in names), strict=True))
        order = TWO if set(channels) == set(TWO) else channels
        for channel, truth in zip(order, patient.images, strict=True):
            np.testing.assert_array_equal(arrays[channel], truth, err_msg=channel)


@pytest.mark.parametrize("layout", ["nnunet", "brats", "totalsegmentator", "masks", "slicer"])
def test_regions_are_those_of_the_data_set(tmp_path: Path, layout: str) -> None:
    count, write = LAYOUTS[layout]
    patients = make_patients(count)
    write(tmp_path / "in", patients)
    cases = convert(tmp_path / "in", tmp_path / "out", layout, overlap="regions")
    regions = {name.replace("_", " "): values for name, values in read_form(tmp_path / "out")["regions"].items()}
    assert regions.keys() == REGIONS.keys()
    for patient in patients:
        label = read_array(tmp_path / "out" / find_row(cases, patient)["label"])
        for name, values in REGIONS.items():
            np.testing.assert_array_equal(np.isin(label, regions[name]), np.isin(patient.label, values), err_msg=name)


def test_label_names_tell_which_classes_a_value_stands_for(tmp_path: Path) -> None:
    LAYOUTS["masks"][1](tmp_path / "in", make_patients(1))
    convert(tmp_path / "in", tmp_path / "out", "masks", overlap="regions")
    names = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert names["1"] == "enhancing_tumour"
    assert names["4"] == "tumour_core + whole_tumour"
    assert names["5"] == "enhancing_tumour + tumour_core + whole_tumour"


def test_without_regions_the_last_class_counts_and_the_row_says_so(tmp_path: Path) -> None:
    patients = make_patients(1)
    LAYOUTS["masks"][1](tmp_path / "in", patients)
    cases = convert(tmp_path / "in", tmp_path / "out", "masks")
    label = read_array(tmp_path / "out" / find_row(cases, patients[0])["label"])
    np.testing.assert_array_equal(label, np.where(patients[0].label > 0, 3, 0))
    shared = int(np.isin(patients[0].label, (1, 4)).sum())
    assert list_reasons(tmp_path / "out")[0] == f"{shared} voxels lie in several classes: the last counts"


def test_combinations_have_one_value_in_all_cases(tmp_path: Path) -> None:
    masks = {"a": {"x": [0, 1], "y": [1, 2], "z": [4]}, "b": {"x": [0], "y": [2], "z": [2, 4]}}
    for case, classes in masks.items():
        write_array(tmp_path / "in" / case / "image.nii.gz", np.arange(40, dtype=np.int16).reshape(10, 2, 2))
        for name, rows in classes.items():
            array = np.zeros((10, 2, 2), np.uint8)
            array[rows] = 1
            write_array(tmp_path / "in" / case / f"{name}.nii.gz", array)
    cases = convert(tmp_path / "in", tmp_path / "out", "masks", overlap="regions")
    regions = read_form(tmp_path / "out")["regions"]
    for case, row in cases.items():
        label = read_array(tmp_path / "out" / row["label"])
        for name, rows in masks[case].items():
            assert np.flatnonzero(np.isin(label, regions[name])[:, 0, 0]).tolist() == rows
    assert regions == {"x": [1, 4], "y": [2, 4, 5], "z": [3, 5]}


def test_names_of_channels_that_no_table_could_have_are_cleaned_and_said(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), ("T1/Gd; post", "t1_gd_ POST"))
    names = ["T1_Gd_ post", "t1_gd_ POST 2"]
    layout = recognise_layout(tmp_path / "in", list_files(tmp_path / "in"))
    assert layout is not None
    assert list(layout.channels) == names
    remark = "  channels are called otherwise here: 'T1/Gd; post' → 'T1_Gd_ post', 't1_gd_ POST' → 't1_gd_ POST 2'"
    assert remark in layout.format_lines()
    convert(tmp_path / "in", tmp_path / "out", "nnunet", overlap="regions")
    assert read_form(tmp_path / "out")["channels"] == names
    assert list(read_channel_rules(tmp_path / "out")) == names


@pytest.mark.parametrize("names", [["T1", "T1;T2"], ["a/b", "c"], ["", "c"], ["T1", "t1"], ["a", "b\x1b"]])
def test_names_of_channels_are_checked_where_the_form_is_read(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "case_form.json").write_text(json.dumps({"channels": names}))
    with pytest.raises(DataError, match=r"case_form\.json: channels: .*; run the stage convert again"):
        read_channel_rules(tmp_path)


def test_exclusive_classes_need_no_form(tmp_path: Path) -> None:
    write_array(tmp_path / "in" / "a" / "ct.nii.gz", np.ones((4, 4, 4), np.int16))
    for number, name in enumerate(("liver", "spleen")):
        mask = np.zeros((4, 4, 4), np.uint8)
        mask[number] = 1
        write_array(tmp_path / "in" / "a" / "segmentations" / f"{name}.nii.gz", mask)
    convert(tmp_path / "in", tmp_path / "out", "totalsegmentator", overlap="regions")
    assert not (tmp_path / "out" / "case_form.json").exists()
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {
        "0": "background",
        "1": "liver",
        "2": "spleen",
    }


def test_case_without_a_channel_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    (tmp_path / "in" / "Dataset001_TUMOUR" / "imagesTr" / "bob_0001.nii.gz").unlink()
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert sorted(cases) == ["ann", "cid"]
    assert "lacks the channel FLAIR of T1w, FLAIR" in list_reasons(tmp_path / "out")


def test_rows_of_a_table_that_make_no_case_are_rows_and_the_others_go_on(tmp_path: Path) -> None:
    patients = make_patients(2)
    write_listing(tmp_path / "in", patients, TWO)
    (tmp_path / "in/store/1/1.nii.gz").unlink()
    (tmp_path / "in/store/2/0.nii.gz").write_bytes(b"no image")
    with (tmp_path / "in/paths.csv").open("a") as table:
        table.write("dan,dan,,,,train\n")
    cases = convert(tmp_path / "in", tmp_path / "out", "table")
    assert list(cases) == ["ann"]
    rows = read_rows(tmp_path / "out/conversion.csv") or []
    assert [row["verdict"] for row in rows] == ["converted", "quarantined", "quarantined", "quarantined"]
    assert rows[1]["reason"] == "line 3, column image:FLAIR: 'store/1/1.nii.gz' is not there"
    assert rows[2]["reason"].startswith("channel T1w: unreadable")
    assert (rows[3]["source"], rows[3]["reason"]) == ("paths.csv", "line 5, names no image")


def test_value_of_no_class_is_a_row(tmp_path: Path) -> None:
    patients = make_patients(2)
    write_nnunet(tmp_path / "in", patients, TWO)
    wrong = np.where(patients[0].label == 4, 9, patients[0].label)
    write_array(tmp_path / "in" / "Dataset001_TUMOUR" / "labelsTr" / "ann.nii.gz", wrong)
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert "ann" not in cases
    assert "label: label values [9] are of no class; the classes have [1, 2, 4]" in list_reasons(tmp_path / "out")


def test_parts_of_the_data_set_are_kept(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    subsets = {case: row["subset"] for case, row in cases.items()}
    assert subsets == {"ann": "training", "bob": "training", "cid": "testing"}


def write_with_ignore(folder: Path, patients: list[Patient], ignore: int) -> Path:
    """nnU-Net's folder with the classes a (1) and b (2) and an ignore value."""
    write_nnunet(folder, patients, ("CT",))
    root = folder / "Dataset001_TUMOUR"
    content = json.loads((root / "dataset.json").read_text())
    del content["regions_class_order"]
    labels = {"background": 0, "a": 1, "b": 2, "ignore": ignore}
    (root / "dataset.json").write_text(json.dumps(content | {"labels": labels}))
    return root


def test_ignore_value_stays_in_the_label_and_is_no_class(tmp_path: Path) -> None:
    patients = make_patients(1)
    write_with_ignore(tmp_path / "in", patients, 4)
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert read_form(tmp_path / "out")["ignore"] == 4
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"0": "background", "1": "a", "2": "b"}
    for patient in patients:
        label = find_row(cases, patient)["label"]
        np.testing.assert_array_equal(read_array(tmp_path / "out" / label), patient.label)
    count = int((patients[0].label == 4).sum())
    assert f"{count} of {patients[0].label.size} voxels are not labelled (ignore)" in list_reasons(tmp_path / "out")


def test_ignore_value_below_a_class_is_refused_as_nnunet_does(tmp_path: Path) -> None:
    for ignore in (0, 1, 2):
        write_with_ignore(tmp_path / "in", make_patients(1), ignore)
        with pytest.raises(DataError, match=f"above those of all classes, 2 here, received \\[{ignore}\\]"):
            convert(tmp_path / "in", tmp_path / "out", "nnunet")


def test_mask_called_ignore_marks_voxels_that_nobody_labelled(tmp_path: Path) -> None:
    patients = make_patients(1)
    for patient in patients:
        folder = tmp_path / "in" / patient.name
        write_array(folder / "ct.nii.gz", patient.images[0])
        write_array(folder / "masks" / "organ.nii.gz", (patient.label > 0).astype(np.uint8) * 255)
        write_array(folder / "masks" / "tumour.nii.gz", (patient.label == 4).astype(np.uint8))
        write_array(folder / "masks" / "Ignore.nii.gz", (patient.label == 1).astype(np.uint8))
    cases = convert(tmp_path / "in", tmp_path / "out", "masks", overlap="regions")
    assert read_form(tmp_path / "out") == {"regions": {"organ": [1, 3], "tumour": [2, 3]}, "ignore": 255}
    for patient in patients:
        expected = np.array([0, 255, 1, 0, 3])[patient.label]
        np.testing.assert_array_equal(read_array(tmp_path / "out" / find_row(cases, patient)["label"]), expected)


def test_crop_of_a_slicer_segmentation_is_put_in_its_place(tmp_path: Path) -> None:
    patients = make_patients(1)
    write_slicer(tmp_path / "in", patients)
    for patient in patients:
        path = tmp_path / "in" / f"{patient.name}.seg.nrrd"
        whole = sitk.ReadImage(str(path))
        crop = whole[1:9, 1:9, 1:8]
        for key in whole.GetMetaDataKeys():
            if key.startswith("Segment"):
                crop.SetMetaData(key, whole.GetMetaData(key))
        sitk.WriteImage(crop, str(path))
    cases = convert(tmp_path / "in", tmp_path / "out", "slicer", overlap="regions")
    regions = read_form(tmp_path / "out")["regions"]
    for patient in patients:
        label = read_array(tmp_path / "out" / find_row(cases, patient)["label"])
        assert label.shape == patient.label.shape
        for name, values in REGIONS.items():
            np.testing.assert_array_equal(np.isin(label, regions[name]), np.isin(patient.label, values), err_msg=name)


def test_label_on_another_grid_is_a_row(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    small = np.zeros((3, 3, 3), np.uint8)
    write_array(tmp_path / "in" / "Dataset001_TUMOUR" / "labelsTr" / "ann.nii.gz", small)
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert "ann" not in cases


def test_layout_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_array(tmp_path / "in" / "image.nii.gz", np.ones((4, 4, 4), np.int16))
    with pytest.raises(DataError, match="does not look like a task of the Medical Segmentation Decathlon"):
        convert(tmp_path / "in", tmp_path / "out", "msd")
    assert not (tmp_path / "out").exists()


def write_second_channel(folder: Path, grid: Geometry, *, has_place: bool = True) -> None:
    """Replace the second channel of the case ann."""
    image = nibabel.Nifti1Image(np.full(grid.size, 7, np.int16), grid.affine_ras if has_place else None)
    nibabel.save(image, folder / "Dataset001_TUMOUR" / "imagesTr" / "ann_0001.nii.gz")


def read_affine(image: nibabel.Nifti1Image, factor: float) -> NDArray[np.float64]:
    """The affine, LPS, of a grid of voxels that are larger by a factor."""
    return np.asarray(np.diag([-1.0, -1, 1, 1]) @ image.affine @ np.diag([factor, factor, factor, 1]))


def test_channel_on_a_grid_of_its_own_is_kept_and_the_row_says_so(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    first = nibabel.load(tmp_path / "in" / "Dataset001_TUMOUR" / "imagesTr" / "ann_0000.nii.gz")
    write_second_channel(tmp_path / "in", Geometry(tuple(n // 2 for n in first.shape), read_affine(first, 2)))
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert sorted(cases) == ["ann", "bob", "cid"]
    assert any("lies on a grid of its own" in reason for reason in list_reasons(tmp_path / "out"))
    kept = nibabel.load(tmp_path / "out" / cases["ann"]["image"].split(";")[1])
    assert kept.shape == tuple(n // 2 for n in first.shape)


@pytest.mark.parametrize(
    ("shift_mm", "has_place", "reason"),
    [(500.0, True, "lie beside each other"), (0.0, False, "does not say where it lies")],
)
def test_channel_of_another_place_is_a_row_and_the_others_go_on(
    tmp_path: Path, shift_mm: float, has_place: bool, reason: str
) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    grid = Geometry.from_parts((3, 3, 3), (1, 1, 1), (shift_mm, 0, 0))
    write_second_channel(tmp_path / "in", grid, has_place=has_place)
    cases = convert(tmp_path / "in", tmp_path / "out", "nnunet")
    assert sorted(cases) == ["bob", "cid"]
    assert any(reason in text for text in list_reasons(tmp_path / "out"))


def test_mask_on_another_grid_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    LAYOUTS["masks"][1](tmp_path / "in", make_patients(1))
    write_array(tmp_path / "in" / "ann" / "tumour_core.nii.gz", np.ones((3, 3, 3), np.uint8))
    cases = convert(tmp_path / "in", tmp_path / "out", "masks", overlap="regions")
    assert sorted(cases) == ["bob", "cid"]
    assert any("its grid is not the image's" in reason for reason in list_reasons(tmp_path / "out"))


def test_values_without_names_are_named_by_their_numbers(tmp_path: Path) -> None:
    LAYOUTS["table"][1](tmp_path / "in", make_patients(2))
    convert(tmp_path / "in", tmp_path / "out", "table")
    names = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert names == {"0": "background", "1": "label_1", "2": "label_2", "4": "label_4"}


@given(masks=arrays(np.bool_, (6, 3, 2, 2)), values=st.lists(st.integers(1, 3), min_size=6, max_size=6))
def test_any_masks_are_kept_whole_as_regions(masks: NDArray[np.bool_], values: list[int]) -> None:
    grid = Geometry.from_parts((3, 2, 2), (1, 1, 1))
    label = merge_masks(zip(values, masks, strict=True), grid, highest=3)
    for value in set(values):
        expected = np.any([mask for number, mask in zip(values, masks, strict=True) if number == value], axis=0)
        members = [value, *(number for number, classes in label.combinations.items() if value in classes)]
        np.testing.assert_array_equal(np.isin(label.volume.array, members), expected)
    assert set(label.values) == set(np.unique(label.volume.array).tolist())
    assert len(set(label.combinations.values())) == len(label.combinations)


@pytest.mark.parametrize(("overlap", "expected"), [("last", [1, 2, 2, 0]), ("first", [1, 1, 2, 0])])
def test_one_class_counts_where_two_lie(overlap: Literal["last", "first"], expected: list[int]) -> None:
    first, second = (np.array(mask, np.bool_).reshape(4, 1, 1) for mask in ([1, 1, 0, 0], [0, 1, 1, 0]))
    label = merge_masks([(1, first), (1, first), (2, second)], Geometry.from_parts((4, 1, 1), (1, 1, 1)), 2, overlap)
    assert label.volume.array.ravel().tolist() == expected
    assert label.remark == f"1 voxels lie in several classes: the {overlap} counts"


def test_a_training_case_without_its_label_is_converted_and_says_so(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "in", make_patients(2), TWO)
    (tmp_path / "in/Dataset001_TUMOUR/labelsTr/bob.nii.gz").unlink()
    assert convert(tmp_path / "in", tmp_path / "out", "nnunet")["bob"]["label"] == ""
    rows = {row["case"]: row["reason"] for row in read_rows(tmp_path / "out/conversion.csv") or []}
    assert rows["bob"] == "no label, though the data set has the case for training"
    assert "no label" not in rows["ann"] + rows["cid"]
