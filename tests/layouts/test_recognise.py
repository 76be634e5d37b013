"""A data set written in each known layout is recognised, with the same cases, channels and labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.layouts.datasets import (
    CASES,
    FOUR,
    LAYOUTS,
    REGIONS,
    TWO,
    Patient,
    make_patients,
    write_array,
    write_bids,
    write_brats,
    write_decathlon,
    write_listing,
    write_nnunet,
    write_slicer,
)
from voxflow.errors import DataError
from voxflow.layouts import Layout, LayoutCase, recognise_layout
from voxflow.prediction import logits_to_labels
from voxflow.spec import ModelSpec
from voxflow.volumes import read_channels, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def recognise(source: Path, name: Any = None) -> Layout:
    """Recognise a folder, which has to have a layout."""
    layout = recognise_layout(source, [path for path in source.rglob("*") if path.is_file()], name)
    assert layout is not None
    return layout


def read_case(case: LayoutCase) -> list[NDArray[Any]]:
    """The arrays of a case's channels."""
    sources = [source for source in case.channels if source]
    return [read_channels(source.path)[source.index or 0].array for source in sources]


def read_regions(layout: Layout, case: LayoutCase) -> dict[str, NDArray[np.bool_]]:
    """The mask of each class of a case, however its label is stored."""
    masks = {}
    for label in case.labels:
        array = read_channels(label.path)[label.layer or 0].array
        if label.class_name:
            masks[label.class_name.replace("_", " ")] = array == label.value if label.value is not None else array != 0
        else:
            masks |= {name: np.isin(array, values) for name, values in layout.classes.items()}
    return masks


def find_case(layout: Layout, patient: Patient) -> LayoutCase:
    """The case of a patient; layouts may put the patient's folder or the word sub- before the name."""
    return next(case for case in layout.cases if patient.name in case.name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_told_by_what_it_is(tmp_path: Path, name: str) -> None:
    count, write = LAYOUTS[name]
    patients = make_patients(count)
    write(tmp_path, patients)
    layout = recognise(tmp_path)
    assert layout.name == name
    assert len(layout.cases) == len(CASES)
    assert len({case.patient for case in layout.cases}) == len(CASES)
    assert len(layout.channels) == count
    assert not layout.unplaced
    for patient in patients:
        arrays = dict(zip(layout.channels, read_case(find_case(layout, patient)), strict=True))
        # BIDS has no order of its own: its channels are ordered by name.
        names = TWO if set(layout.channels) == set(TWO) else layout.channels
        for channel, truth in zip(names, patient.images, strict=True):
            np.testing.assert_array_equal(arrays[channel], truth, err_msg=channel)


@pytest.mark.parametrize("name", ["nnunet", "brats", "totalsegmentator", "masks", "slicer"])
def test_regions_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    count, write = LAYOUTS[name]
    patients = make_patients(count)
    write(tmp_path, patients)
    layout = recognise(tmp_path)
    for patient in patients:
        masks = read_regions(layout, find_case(layout, patient))
        assert masks.keys() == REGIONS.keys()
        for region, values in REGIONS.items():
            np.testing.assert_array_equal(masks[region], np.isin(patient.label, values), err_msg=region)


@pytest.mark.parametrize("name", ["msd", "bids"])
def test_maps_have_the_names_of_their_values(tmp_path: Path, name: str) -> None:
    patients = make_patients(2)
    LAYOUTS[name][1](tmp_path, patients)
    layout = recognise(tmp_path)
    assert layout.classes == {"necrosis": (1,), "oedema": (2,), "enhancing tumour": (4,)}
    assert not layout.has_regions
    case = find_case(layout, patients[0])
    np.testing.assert_array_equal(read_volume(case.labels[0].path).array, patients[0].label)


def test_nnunet_states_the_values_of_the_combined_map(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    layout = recognise(tmp_path)
    assert layout.has_regions
    spec = ModelSpec(
        task="segmentation",
        class_names=tuple(layout.classes),
        activation="sigmoid",
        regions=tuple(layout.classes.values()),
    )
    # What lies in the first region alone, in the first two, in all three.
    logits = np.array([[1, 1, 1], [-1, 1, 1], [-1, -1, 1]])
    assert logits_to_labels(logits, spec).tolist() == [2, 1, 4]
    assert [case.part for case in layout.cases] == ["training", "training", "testing"]


def test_nnunet_value_to_ignore(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(1), ("CT",))
    path = tmp_path / "Dataset001_TUMOUR" / "dataset.json"
    content = json.loads(path.read_text())
    del content["regions_class_order"]
    path.write_text(json.dumps(content | {"labels": {"background": 0, "liver": 1, "ignore": 2}}))
    layout = recognise(tmp_path)
    assert layout.ignore == 2
    assert layout.classes == {"liver": (1,)}


def test_nnunet_of_version_1_is_told_from_the_decathlon_by_its_files(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    path = tmp_path / "Dataset001_TUMOUR" / "dataset.json"
    content = {
        "modality": {"0": "T1w", "1": "FLAIR"},
        "labels": {"0": "background", "1": "core", "2": "oedema", "4": "enhancing"},
        "numTraining": 2,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in CASES[:2]
        ],
        "test": [],
    }
    path.write_text(json.dumps(content))
    layout = recognise(tmp_path)
    assert (layout.name, len(layout.channels)) == ("nnunet", 2)
    assert layout.classes["oedema"] == (2,)


def test_missing_channel_is_none_and_said(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    (tmp_path / "Dataset001_TUMOUR" / "imagesTr" / "bob_0001.nii.gz").unlink()
    layout = recognise(tmp_path)
    case = next(case for case in layout.cases if case.name == "bob")
    assert case.channels[1] is None
    assert "  1 case(s) lack the channel FLAIR" in layout.format_lines()


@pytest.mark.parametrize(
    ("endings", "enhancing"), [(("_t1", "_t1ce", "_t2", "_flair"), 4), (("-t1n", "-t1c", "-t2w", "-t2f"), 3)]
)
def test_brats_of_both_styles(tmp_path: Path, endings: tuple[str, ...], enhancing: int) -> None:
    write_brats(tmp_path, make_patients(4), endings)
    layout = recognise(tmp_path)
    assert layout.channels == FOUR
    assert layout.classes["enhancing tumour"] == (enhancing,)
    assert layout.classes["whole tumour"] == (1, 2, enhancing)


def test_brats_visits_are_of_one_patient(tmp_path: Path) -> None:
    patients = make_patients(4)
    visits = [
        Patient(f"BraTS-GLI-00007-{number:03d}", patient.images, patient.label)
        for number, patient in enumerate(patients)
    ]
    write_brats(tmp_path, visits, ("-t1n", "-t1c", "-t2w", "-t2f"))
    layout = recognise(tmp_path)
    assert {case.patient for case in layout.cases} == {"BraTS-GLI-00007"}


def test_class_that_a_case_lacks_is_said(tmp_path: Path) -> None:
    patients = make_patients(1)
    LAYOUTS["totalsegmentator"][1](tmp_path, patients)
    (tmp_path / "bob" / "segmentations" / "tumour_core.nii.gz").unlink()
    layout = recognise(tmp_path)
    assert len(find_case(layout, patients[1]).labels) == 2
    assert any("lack a mask of some class" in line for line in layout.format_lines())


def test_segments_know_their_layers(tmp_path: Path) -> None:
    patients = make_patients(1)
    write_slicer(tmp_path, patients)
    case = find_case(recognise(tmp_path), patients[0])
    assert [(label.class_name, label.value, label.layer) for label in case.labels] == [
        ("whole tumour", 1, 0),
        ("tumour core", 1, 1),
        ("enhancing tumour", 1, 2),
    ]


def test_slicer_segmentation_without_an_image_has_no_place(tmp_path: Path) -> None:
    write_slicer(tmp_path, make_patients(1))
    (tmp_path / "ann.nrrd").unlink()
    layout = recognise(tmp_path)
    assert [path.name for path in layout.unplaced] == ["ann.seg.nrrd"]
    assert any("no place for ann.seg.nrrd: a segmentation without an image" in line for line in layout.format_lines())


def test_bids_takes_sessions_as_visits_of_one_patient(tmp_path: Path) -> None:
    write_bids(tmp_path, make_patients(2), TWO)
    image = make_patients(1)[0].images[0]
    write_array(tmp_path / "sub-ann" / "ses-2" / "anat" / "sub-ann_ses-2_T1w.nii.gz", image)
    layout = recognise(tmp_path)
    assert [case.name for case in layout.cases] == ["sub-ann", "sub-ann_ses-2", "sub-bob", "sub-cid"]
    assert len({case.patient for case in layout.cases}) == len(CASES)


def test_table_of_paths_in_excel(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl", reason="Excel tables need openpyxl")
    import pandas as pd

    write_listing(tmp_path, make_patients(2), TWO)
    pd.read_csv(tmp_path / "paths.csv").to_excel(tmp_path / "paths.xlsx", index=False)
    (tmp_path / "paths.csv").unlink()
    layout = recognise(tmp_path)
    assert (layout.name, layout.channels) == ("table", TWO)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("store/9/drawn.nii.gz", "line 2, column label: 'store/9/drawn.nii.gz' is not there"),
        ("store/0", "line 2, column label: 'store/0' is a folder"),
        ("empty.nii.gz", "line 2, column label: 'empty.nii.gz' is empty"),
        ("link.nii.gz", "line 2, column label: 'link.nii.gz' is not there"),
        ("../drawn.nii.gz", "line 2, column label: '../drawn.nii.gz' leads out of the source, write paths below it"),
        ("/etc/passwd", "line 2, column label: '/etc/passwd' leads out of the source, write paths below it"),
    ],
)
def test_a_wrong_cell_costs_its_row_alone(tmp_path: Path, cell: str, reason: str) -> None:
    write_listing(tmp_path, make_patients(2), TWO)
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "link.nii.gz").symlink_to("nowhere.nii.gz")
    path = tmp_path / "paths.csv"
    path.write_text(path.read_text().replace("store/0/drawn.nii.gz", cell))
    layout = recognise(tmp_path)
    assert [case.fault for case in layout.cases] == [reason, "", ""]
    lines = layout.format_lines()
    assert f"  1 row(s) of paths.csv make no case: {reason}" in lines
    assert lines[1].startswith("  2 cases of 2 patients, 2 labelled")


def test_a_table_whose_rows_are_all_wrong_is_refused_in_one_line(tmp_path: Path) -> None:
    write_listing(tmp_path, make_patients(2), TWO)
    path = tmp_path / "paths.csv"
    path.write_text(path.read_text().replace("store/", "stored/"))
    with pytest.raises(
        DataError, match=r"paths\.csv: no row makes a case: line 2, column image:T1w: .* is not there"
    ) as error:
        recognise(tmp_path)
    assert "\n" not in str(error.value)


def test_a_row_that_names_the_images_of_another_is_refused(tmp_path: Path) -> None:
    write_listing(tmp_path, make_patients(2), TWO)
    path = tmp_path / "paths.csv"
    path.write_text(path.read_text().replace("store/2/", "store/0/"))
    assert [case.fault for case in recognise(tmp_path).cases] == [
        "",
        "",
        "line 4, names the images of line 2 again",
    ]


def test_two_files_for_one_channel_are_no_guess(tmp_path: Path) -> None:
    patients = make_patients(4)
    write_brats(tmp_path / "brats", patients, ("_t1", "_t1ce", "_t2", "_flair"))
    (file,) = (tmp_path / "brats").rglob("bob_t1ce.nii.gz")
    write_array(file.with_name("bob_T1Gd.nii.gz"), patients[1].images[0])
    layout = recognise(tmp_path / "brats")
    fault = "bob_T1Gd.nii.gz and bob_t1ce.nii.gz are both its T1c; keep one"
    assert [case.fault for case in layout.cases if case.fault] == [fault]
    assert any(fault in line for line in layout.format_lines())
    write_nnunet(tmp_path / "nnunet", make_patients(2), TWO)
    description = tmp_path / "nnunet/Dataset001_TUMOUR/dataset.json"
    description.write_text(description.read_text().replace('".nii.gz"', '""'))
    write_array(tmp_path / "nnunet/Dataset001_TUMOUR/imagesTr/bob_0001.nrrd", patients[1].images[0])
    faults = {case.name: case.fault for case in recognise(tmp_path / "nnunet").cases}
    expected = "bob_0001.nii.gz and bob_0001.nrrd are one channel of it; keep one"
    assert faults == {"ann": "", "bob": expected, "cid": ""}


def test_a_case_of_other_images_than_most_costs_itself_alone(tmp_path: Path) -> None:
    image = make_patients(1)[0].images[0]
    for name, images in {
        "a": ("ct", "pet"),
        "b": ("ct", "pet"),
        "c": ("ct", "pet", "t1"),
        "d": ("pet",),
        "e": ("t1",),
    }.items():
        for word in images:
            write_array(tmp_path / name / f"{word}.nii.gz", image)
        for mask in ("liver", "tumour"):
            write_array(tmp_path / name / f"masks/{mask}.nii.gz", (image > 150).astype("uint8"))
    (tmp_path / "e/masks/liver.nii.gz").unlink()
    layout = recognise(tmp_path)
    assert (layout.name, layout.channels) == ("masks", ("ct", "pet"))
    assert [[bool(source) for source in case.channels] for case in layout.cases] == [
        [True, True],
        [True, True],
        [True, True],
        [False, True],
    ]
    unplaced = {path.relative_to(tmp_path).as_posix() for path in layout.unplaced}
    assert unplaced == {"c/t1.nii.gz", "e/t1.nii.gz", "e/masks/tumour.nii.gz"}
    assert "  1 case(s) lack the channel ct" in layout.format_lines()


def test_rows_of_one_name_are_refused_and_the_others_count(tmp_path: Path) -> None:
    write_listing(tmp_path, make_patients(2), TWO)
    path = tmp_path / "paths.csv"
    path.write_text(path.read_text().replace("bob", "ann"))
    layout = recognise(tmp_path)
    faults = {case.name: case.fault for case in layout.cases}
    assert faults["cid"] == ""
    assert faults["ann, line 2"] == "line 2, column case: 2 rows are called 'ann'"
    assert len(faults) == len(CASES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"labels": {"background": 0, "liver": "one"}},
            "labels.liver: expected whole numbers from 0 to 65535, received 'one'",
        ),
        ({"labels": [0, 1]}, r"labels: expected values by name"),
        ({"channel_names": {"0": "CT", "2": "PET"}}, r"channels are numbered from 0 without a gap, received 0, 2"),
        ({"regions_class_order": [1]}, r"regions_class_order: expected 3 whole numbers"),
        ({"regions_class_order": [2, 2, 4]}, r"regions_class_order: 2 is no value of tumour core, which has 1, 4"),
    ],
)
def test_wrong_description_is_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    path = tmp_path / "Dataset001_TUMOUR" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=reason):
        recognise(tmp_path)


def test_decathlon_lists_a_file_that_is_not_there(tmp_path: Path) -> None:
    write_decathlon(tmp_path, make_patients(2), TWO)
    (tmp_path / "Task01_Tumour" / "imagesTr" / "bob.nii.gz").unlink()
    layout = recognise(tmp_path)
    assert len(layout.cases) == len(CASES)
    assert layout.remarks == ("1 file(s) that dataset.json lists are not there: imagesTr/bob.nii.gz",)


def test_decathlon_without_any_image_is_refused(tmp_path: Path) -> None:
    write_decathlon(tmp_path, make_patients(2), TWO)
    for image in tmp_path.rglob("images*/*"):
        image.unlink()
    with pytest.raises(DataError, match=r"no image is there, such as imagesTr/ann\.nii\.gz"):
        recognise(tmp_path)


def test_pictures_in_two_dimensions_are_no_volumes(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    path = tmp_path / "Dataset001_TUMOUR" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"file_ending": ".png"}))
    with pytest.raises(DataError, match=r"no image is there; its file_ending is \.png"):
        recognise(tmp_path)


def test_several_data_sets_are_not_mixed(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "a", make_patients(1), ("CT",))
    write_nnunet(tmp_path / "b", make_patients(1), ("CT",))
    with pytest.raises(DataError, match="2 data sets lie here: a/Dataset001_TUMOUR, b/Dataset001_TUMOUR"):
        recognise(tmp_path)


def test_plain_folders_are_no_known_layout(tmp_path: Path) -> None:
    for patient in make_patients(1):
        write_array(tmp_path / "images" / f"{patient.name}.nii.gz", patient.images[0])
        write_array(tmp_path / "labels" / f"{patient.name}.nii.gz", patient.label)
    assert recognise_layout(tmp_path, [path for path in tmp_path.rglob("*") if path.is_file()]) is None


def test_layout_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    write_array(tmp_path / "image.nii.gz", make_patients(1)[0].images[0])
    with pytest.raises(DataError, match="does not look like nnU-Net's raw data"):
        recognise_layout(tmp_path, [tmp_path / "image.nii.gz"], "nnunet")


def test_training_cases_without_a_label_are_named(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(2), TWO)
    assert not any("without a label" in line for line in recognise(tmp_path).format_lines())
    (tmp_path / "Dataset001_TUMOUR/labelsTr/bob.nii.gz").unlink()
    assert "  cases for training without a label: bob" in recognise(tmp_path).format_lines()


def test_columns_of_a_table_that_mean_nothing_are_named(tmp_path: Path) -> None:
    write_array(tmp_path / "a.nii.gz", make_patients(1)[0].images[0])
    (tmp_path / "cases.csv").write_text("case,patient,image,lable\na,p,a.nii.gz,a.nii.gz\n")
    (text,) = recognise(tmp_path).remarks
    assert text.startswith("columns of cases.csv that are not read: 'lable'")
    assert "did you mean 'label'?" in text
    (tmp_path / "cases.csv").write_text("case,image,Patient ID\na,a.nii.gz,p\n")
    (text,) = recognise(tmp_path).remarks
    assert text.endswith("; without 'patient', each case counts as a patient of its own")
