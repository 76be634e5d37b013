"""What public data sets of the known layouts look like beyond their documentation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.layouts.tumours import (
    Patient,
    make_patients,
    write_brats,
    write_decathlon,
    write_masks,
    write_nifti,
    write_nnunet,
    write_nrrd,
    write_slicer,
)
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import DataError
from voxflow.images import list_files, masks_overlap
from voxflow.layouts import Layout, recognise_layout
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = make_patients()[0].images[0]
LABEL = make_patients()[0].label
MASK = (LABEL > 0).astype(np.uint8)


def recognise(source: Path, name: Any = None) -> Layout:
    layout = recognise_layout(source, list_files(source), name)
    assert layout is not None
    return layout


def describe_bids(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')


def list_reasons(layout: Layout) -> dict[str, str]:
    return {path.name: reason for path, reason in layout.unplaced.items()}


def convert(source: Path, target: Path, layout: str) -> tuple[list[str], list[str]]:
    """Convert; gives the cases, and the reasons of what was quarantined."""
    options = {"layout": layout, "keep_names": True, "pseudonym_key": "k", "mapping": False, "workers": 1}
    convert_folder(source, target, ConvertOptions.model_validate(options))
    rows = read_rows(target / "conversion.csv") or []
    cases = [row["case"] for row in read_rows(target / "cases.csv") or []]
    return cases, [row["reason"] for row in rows if row["verdict"] == "quarantined"]


def test_bids_of_several_runs_spaces_and_segmentations_says_which_count(tmp_path: Path) -> None:
    describe_bids(tmp_path)
    for subject in ("sub-01", "sub-02"):
        for name in ("run-1_T1w", "run-2_T1w"):
            write_nifti(tmp_path / subject / f"anat/{subject}_{name}.nii.gz", IMAGE)
        names = ("dseg", "desc-aseg_dseg", "space-MNI_dseg", "label-GM_probseg", "space-MNI_T1w", "desc-brain_mask")
        for name in names:
            write_nifti(tmp_path / "derivatives/prep" / subject / f"anat/{subject}_{name}.nii.gz", MASK)
    layout = recognise(tmp_path)
    assert [case.channels[0].path.name for case in layout.cases if case.channels[0]] == [
        "sub-01_run-1_T1w.nii.gz",
        "sub-02_run-1_T1w.nii.gz",
    ]
    assert [[label.path.name for label in case.labels] for case in layout.cases] == [
        ["sub-01_dseg.nii.gz"],
        ["sub-02_dseg.nii.gz"],
    ]
    reasons = list_reasons(layout)
    first = "sub-01_run-1_T1w.nii.gz"
    assert reasons["sub-01_run-2_T1w.nii.gz"] == f"another image of the same channel (a run or a space); {first} counts"
    reason = "another segmentation of this visit (desc-aseg); those that are plain count"
    assert reasons["sub-01_desc-aseg_dseg.nii.gz"] == reason


@pytest.mark.parametrize("ending", ["dseg", "label-lesion_mask"])
def test_bids_by_two_raters_takes_one_of_them(tmp_path: Path, ending: str) -> None:
    describe_bids(tmp_path)
    write_nifti(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz", IMAGE)
    for rater in ("ann", "bob"):
        write_nifti(tmp_path / f"derivatives/{rater}/sub-1/anat/sub-1_{ending}.nii.gz", MASK)
    layout = recognise(tmp_path)
    place = f"derivatives/{{}}/sub-1/anat/sub-1_{ending}.nii.gz"
    assert [label.path for label in layout.cases[0].labels] == [tmp_path / place.format("ann")]
    reason = f"another segmentation of this visit; {place.format('ann')} counts"
    assert layout.unplaced == {tmp_path / place.format("bob"): reason}


def test_bids_masks_of_several_lesions_and_classes_are_all_taken(tmp_path: Path) -> None:
    describe_bids(tmp_path)
    write_nifti(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz", IMAGE)
    for place in (
        "ann/sub-1/sub-1_run-1_label-lesion",
        "ann/sub-1/sub-1_run-2_label-lesion",
        "bob/sub-1/sub-1_desc-brain",
    ):
        write_nifti(tmp_path / f"derivatives/{place}_mask.nii.gz", MASK)
    layout = recognise(tmp_path)
    assert [label.class_name for label in layout.cases[0].labels] == ["lesion", "lesion", "brain"]
    assert not layout.unplaced


def test_bids_whose_images_lie_among_the_derivatives(tmp_path: Path) -> None:
    describe_bids(tmp_path)
    for subject in ("sub-r001s001", "sub-r001s002"):
        stem = tmp_path / "derivatives/ATLAS" / subject / "ses-1/anat" / f"{subject}_ses-1_space-MNI152NLin2009aSym"
        write_nifti(stem.with_name(f"{stem.name}_T1w.nii.gz"), IMAGE)
        write_nifti(stem.with_name(f"{stem.name}_label-L_desc-T1lesion_mask.nii.gz"), MASK)
    layout = recognise(tmp_path)
    assert (len(layout.cases), layout.channels, dict(layout.classes)) == (2, ("T1w",), {"L": (1,)})
    assert not layout.unplaced


def test_bids_whose_sites_call_one_channel_otherwise(tmp_path: Path) -> None:
    describe_bids(tmp_path)
    for number, word in enumerate(("mprage", "spgr", "iso")):
        write_nifti(tmp_path / f"sub-{number}/anat/sub-{number}_acq-{word}_T1w.nii.gz", IMAGE)
    layout = recognise(tmp_path)
    assert layout.channels == ("T1w",)
    assert all(case.channels[0] for case in layout.cases)


def test_bids_table_with_one_name_for_two_values_is_refused(tmp_path: Path) -> None:
    describe_bids(tmp_path)
    write_nifti(tmp_path / "sub-1/anat/sub-1_T1w.nii.gz", IMAGE)
    write_nifti(tmp_path / "derivatives/x/sub-1/anat/sub-1_dseg.nii.gz", LABEL)
    (tmp_path / "derivatives/x/dseg.tsv").write_text("index\tname\n1\ttumour\n2\ttumour\n")
    with pytest.raises(DataError, match="two values are called 'tumour'"):
        recognise(tmp_path)


def rename(patients: list[Patient], kind: str) -> list[Patient]:
    """Patients called as in one of the challenges since 2023."""
    return [Patient(f"BraTS-{kind}-{n:05d}-000", patient.images, patient.label) for n, patient in enumerate(patients)]


def write_challenge(root: Path, kind: str, values: dict[int, int]) -> None:
    """A challenge since 2023; ``values`` replaces some of the labels' values."""
    for patient in rename(make_patients(), kind):
        label = patient.label.copy()
        for before, after in values.items():
            label[patient.label == before] = after
        for ending, image in zip(("t1n", "t1c", "t2w", "t2f"), patient.images, strict=True):
            write_nifti(root / patient.name / f"{patient.name}-{ending}.nii.gz", image)
        write_nifti(root / patient.name / f"{patient.name}-seg.nii.gz", label)


@pytest.mark.parametrize(
    ("kind", "values", "regions"),
    [
        ("GLI", {4: 3}, {"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)}),
        ("GLI", {}, {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}),
        (
            "GLI",
            {1: 3},
            {
                "whole tumour": (1, 2, 3),
                "tumour core": (1, 3),
                "enhancing tumour": (3,),
                "resection cavity": (4,),
            },
        ),
        ("PED", {4: 3}, {"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)}),
        (
            "PED",
            {},
            {
                "whole tumour": (1, 2, 3, 4),
                "tumour core": (1, 2, 3),
                "enhancing tumour": (1,),
                "cystic component": (3,),
            },
        ),
    ],
)
def test_brats_values_mean_what_they_mean_in_the_challenge(
    tmp_path: Path, kind: str, values: dict[int, int], regions: dict[str, tuple[int, ...]]
) -> None:
    write_challenge(tmp_path, kind, values)
    assert dict(recognise(tmp_path).classes) == regions


def test_brats_label_that_is_damaged_stops_no_other(tmp_path: Path) -> None:
    write_brats(tmp_path / "in", make_patients(), ("_t1", "_t1ce", "_t2", "_flair"))
    paths = sorted((tmp_path / "in").rglob("*_seg.nii.gz"))
    paths[0].write_bytes(b"cut off")
    write_nifti(paths[1], np.full(LABEL.shape, np.nan, np.float32))
    cases, reasons = convert(tmp_path / "in", tmp_path / "out", "brats")
    assert cases == ["BraTS20_Training_cid"]
    assert len(reasons) == 2


def test_mask_that_is_damaged_stops_no_new_workspace(tmp_path: Path) -> None:
    write_masks(tmp_path, make_patients(), "image", "masks")
    (tmp_path / "ann/masks/whole_tumour.nii.gz").write_bytes(b"cut off")
    assert masks_overlap(recognise(tmp_path))


def test_brats_contrasts_of_other_collections(tmp_path: Path) -> None:
    for number, patient in enumerate(make_patients()):
        name = f"UPENN-GBM-{number:05d}_11"
        for ending, image in zip(("T1", "T1GD", "T2", "FLAIR"), patient.images, strict=True):
            write_nifti(tmp_path / name / f"{name}_{ending}.nii.gz", image)
        write_nifti(tmp_path / name / f"{name}_segm.nii.gz", patient.label)
    layout = recognise(tmp_path)
    assert layout.name == "brats"
    assert all(case.labels and all(case.channels) for case in layout.cases)


def test_brats_folders_of_one_name_in_both_parts(tmp_path: Path) -> None:
    for part in ("HGG", "LGG"):
        write_brats(tmp_path / part, make_patients(), ("_t1", "_t1ce", "_t2", "_flair"))
    layout = recognise(tmp_path)
    assert len({case.name for case in layout.cases}) == len({case.patient for case in layout.cases}) == 6
    assert layout.cases[0].name == "HGG/BraTS20_Training_ann"


def test_two_segmentations_of_one_image_are_both_refused(tmp_path: Path) -> None:
    write_slicer(tmp_path, make_patients(), is_old=False)
    twin = tmp_path / "ann/Segmentation_1.seg.nrrd"
    twin.write_bytes((tmp_path / "ann/Segmentation.seg.nrrd").read_bytes())
    layout = recognise(tmp_path)
    assert list_reasons(layout) == dict.fromkeys(
        ("Segmentation.seg.nrrd", "Segmentation_1.seg.nrrd"),
        "another segmentation of the same image lies here; keep one",
    )
    assert [bool(case.labels) for case in layout.cases] == [False, True, True]


@pytest.mark.parametrize("layer", ["7", "-1"])
def test_segment_in_a_layer_that_is_not_there_stops_no_other_case(tmp_path: Path, layer: str) -> None:
    write_slicer(tmp_path / "in", make_patients(), is_old=False)
    keys = ["Segment0_ID:=1", "Segment0_Name:=x", "Segment1_ID:=2", "Segment1_Name:=y", f"Segment1_Layer:={layer}"]
    write_nrrd(tmp_path / "in/ann/Segmentation.seg.nrrd", np.stack([MASK, MASK]), keys)
    cases, reasons = convert(tmp_path / "in", tmp_path / "out", "slicer")
    assert [case for case in cases if "ann" not in case] == ["bob_MRHead", "cid_MRHead"]
    if layer == "7":
        assert len(reasons) == 1
        assert "expected a layer 7, from 0; the file holds 2" in reasons[0]


def test_totalsegmentator_below_further_folders(tmp_path: Path) -> None:
    for place in ("first/Totalsegmentator_dataset_v201", "second"):
        write_masks(tmp_path / place, make_patients(), "ct", "segmentations")
    path = tmp_path / "first/Totalsegmentator_dataset_v201/meta.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("bob;60;m;A;ct head;train", "bob;60;m;A;ct head;test"))
    layout = recognise(tmp_path)
    assert len({case.patient for case in layout.cases}) == 6
    assert layout.cases[0].name == "first/Totalsegmentator_dataset_v201/ann"


def test_totalsegmentator_reads_the_table_beside_its_cases(tmp_path: Path) -> None:
    root = tmp_path / "Totalsegmentator_dataset_v201"
    write_masks(root, make_patients(), "ct", "segmentations")
    path = root / "meta.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("bob;60;m;A;ct head;train", "bob;60;m;A;ct head;test"))
    assert [case.part for case in recognise(tmp_path).cases] == ["training", "testing", "training"]


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_decathlon_with_names_that_end_as_channels_do(tmp_path: Path) -> None:
    items = []
    for number in range(1, 4):
        for folder, array in (("imagesTr", IMAGE), ("labelsTr", MASK)):
            write_nifti(tmp_path / f"{folder}/amos_{number:04d}.nii.gz", array)
        items.append({part: f"./{part}sTr/amos_{number:04d}.nii.gz" for part in ("image", "label")})
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "numTraining": 2}
    content |= {"training": items[:2], "validation": items[2:], "test": []}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    layout = recognise(tmp_path)
    assert (layout.name, len(layout.cases), layout.remarks) == ("msd", 3, ())
    assert not layout.unplaced


def test_decathlon_without_some_of_its_files_gives_the_others(tmp_path: Path) -> None:
    write_decathlon(tmp_path / "in", make_patients())
    root = tmp_path / "in/Task01_BrainTumour"
    (root / "imagesTr/ann.nii.gz").unlink()
    (root / "labelsTr/bob.nii.gz").unlink()
    cases, reasons = convert(tmp_path / "in", tmp_path / "out", "msd")
    assert cases == ["cid"]
    assert len(reasons) == 2
    assert all("not found" in reason for reason in reasons)
    assert not any(str(tmp_path) in reason for reason in reasons)


def test_decathlon_that_lists_an_image_in_both_parts_takes_it_once(tmp_path: Path) -> None:
    write_decathlon(tmp_path, make_patients())
    change_json(tmp_path / "Task01_BrainTumour/dataset.json", test=["./imagesTr/ann.nii.gz"], numTraining=3)
    layout = recognise(tmp_path)
    assert [(case.name, case.part) for case in layout.cases] == [(n, "training") for n in ("ann", "bob", "cid")]
    assert layout.remarks == ("dataset.json lists 1 image(s) again, which count once, as listed first: ann",)


def test_nnunet_region_with_the_background_is_refused(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(), version=2)
    change_json(tmp_path / "Dataset007_Brain/dataset.json", labels={"background": 0, "all": [0, 1, 2, 4]})
    with pytest.raises(DataError, match=r"labels\.all: a region can't hold 0, the background"):
        recognise(tmp_path)


def test_decathlon_written_on_windows(tmp_path: Path) -> None:
    write_decathlon(tmp_path, make_patients())
    path = tmp_path / "Task01_BrainTumour/dataset.json"
    items = [{part: f".\\{part}sTr\\{name}.nii.gz" for part in ("image", "label")} for name in ("ann", "bob", "cid")]
    change_json(path, training=items, numTraining=3)
    layout = recognise(tmp_path)
    assert layout.remarks == ()
    assert [case.name for case in layout.cases] == ["ann", "bob", "cid"]


@pytest.mark.parametrize("value", [3, {"image": "a"}, "imagesTr"])
def test_list_that_is_none_is_named(tmp_path: Path, value: Any) -> None:
    write_decathlon(tmp_path, make_patients())
    change_json(tmp_path / "Task01_BrainTumour/dataset.json", training=value)
    with pytest.raises(DataError, match="training: expected a list of cases"):
        recognise(tmp_path, "msd")


def test_nnunet_channels_that_are_called_by_their_scaling(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(), version=2)
    change_json(tmp_path / "Dataset007_Brain/dataset.json", channel_names={"0": "noNorm", "1": "noNorm"})
    assert recognise(tmp_path).channels == ("noNorm", "noNorm 2")


def test_nnunet_values_in_text(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(), version=2)
    labels = {"background": "0", "a": "1", "b": "2", "c": ["1", "4"]}
    change_json(tmp_path / "Dataset007_Brain/dataset.json", labels=labels, regions_class_order=[1, 2, 4])
    assert dict(recognise(tmp_path).classes) == {"a": (1,), "b": (2,), "c": (1, 4)}


def test_nnunet_files_of_another_ending_have_no_place(tmp_path: Path) -> None:
    write_nnunet(tmp_path, make_patients(), version=2)
    write_nrrd(tmp_path / "Dataset007_Brain/imagesTr/ann_0000.nrrd", IMAGE)
    layout = recognise(tmp_path)
    assert list_reasons(layout).keys() == {"ann_0000.nrrd"}
    assert all(case.channels[0] and case.channels[0].path.name.endswith(".gz") for case in layout.cases)


def write_rows(root: Path, *rows: str) -> None:
    for name in ("a", "b"):
        write_nifti(root / f"{name}.nii.gz", IMAGE)
        write_nifti(root / f"{name}_label.nii.gz", MASK)
    (root / "cases.csv").write_text("\n".join(rows) + "\n")


def test_table_as_people_fill_it_in(tmp_path: Path) -> None:
    rows = ("Case, Image ,LABEL,Part", "1,a.nii.gz,a_label.nii.gz,Test", "2, b.nii.gz,,val")
    write_rows(tmp_path, *rows)
    layout = recognise(tmp_path)
    assert [(case.name, case.part, bool(case.labels)) for case in layout.cases] == [
        ("1", "testing", True),
        ("2", "training", False),
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (("image,part", "a.nii.gz,holdout"), "line 2, column part: expected train, val or test, received 'holdout'"),
        (("image,label,mask", "a.nii.gz,a_label.nii.gz,b_label.nii.gz"), "has the columns label, mask; a label is one"),
    ],
)
def test_table_that_is_not_clear_is_refused(tmp_path: Path, rows: tuple[str, ...], reason: str) -> None:
    write_rows(tmp_path, *rows)
    with pytest.raises(DataError, match=reason):
        recognise(tmp_path)


def test_rows_that_are_not_clear_make_no_case(tmp_path: Path) -> None:
    write_rows(tmp_path, "case,image,part", "1", "2,a.nii.gz", "3,b.nii.gz,holdout")
    assert [case.fault for case in recognise(tmp_path).cases] == [
        "line 2, names no image",
        "",
        "line 4, column part: expected train, val or test, received 'holdout'",
    ]


def test_short_first_row_is_no_table_of_paths(tmp_path: Path) -> None:
    write_rows(tmp_path, "case,image", "1")
    assert recognise_layout(tmp_path, list_files(tmp_path)) is None
