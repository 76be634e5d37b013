"""Files of a plain folder become cases of several channels by the ends of their names."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.dicom.objects import save, seg
from tests.dicom.test_channel_cases import make_study
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.images import read_channel_rules
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

RULES = {"CT": {"suffix": "_ct", "modality": "CT"}, "PET": {"suffix": "_pet", "modality": "PT"}}


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5, 6), value, np.int16)), str(path))


def convert(source: Path, rules: Any = RULES, **more: Any) -> tuple[list[dict[str, str]], list[dict[str, str]], Path]:
    target = source.parent / "out"
    shutil.rmtree(target, ignore_errors=True)
    values = {"channels": rules, "workers": 1, "mapping": False, "pseudonym_key": "key", "keep_names": True} | more
    convert_folder(source, target, ConvertOptions.model_validate(values))
    return read_rows(target / "cases.csv") or [], read_rows(target / "conversion.csv") or [], target


def read_values(target: Path, row: dict[str, str]) -> list[int]:
    names = [*row["image"].split(";"), *([row["label"]] if row["label"] else [])]
    return [int(sitk.GetArrayFromImage(sitk.ReadImage(str(target / name))).max()) for name in names]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"images/a_ct.nii.gz": 7, "images/a_PET.nii.gz": 8, "labels/a.nii.gz": 1}, "a"),
        ({"a_pet.mha": 8, "a_ct.nrrd": 7, "a_seg.nii.gz": 1}, "a"),
        ({"p1/scan_ct.nii": 7, "p1/scan_pet.nii": 8, "p1/scan_seg.nii": 1}, "p1"),
        ({"p1/_ct.nii": 7, "p1/_pet.nii": 8, "p1/label.nii": 1}, "p1"),
    ],
)
def test_files_are_joined_by_their_ends(tmp_path: Path, files: dict[str, int], name: str) -> None:
    for path, value in files.items():
        write(tmp_path / "in" / path, value)
    (row,), _, target = convert(tmp_path / "in")
    assert row["case"] == name
    assert read_values(target, row) == [7, 8, 1]


def test_what_makes_no_case_has_its_reason(tmp_path: Path) -> None:
    for n, path in enumerate(["a_ct", "a_pet", "b_ct", "c_ct", "c_pet", "d", "e_seg", "c_seg", "labels/c"]):
        write(tmp_path / f"in/{path}.nii.gz", n)
    write(tmp_path / "in/a_pet.mha", 3)
    rows: list[dict[str, str]]
    cases, rows, _ = convert(tmp_path / "in")
    assert [(row["case"], row["label"]) for row in cases] == [("c", "")]
    reasons = {row["source"]: (row["verdict"], row["reason"]) for row in rows}
    assert "lacks the channel PET" in reasons["a_ct.nii.gz"][1]
    assert "one of 2 files for one channel" in reasons["a_pet.mha"][1]
    assert "lacks the channel PET" in reasons["b_ct.nii.gz"][1]
    assert "ends in no channel's suffix: _ct, _pet" in reasons["d.nii.gz"][1]
    assert "a label without images" in reasons["e_seg.nii.gz"][1]
    assert "2 labels of one case" in reasons["c_seg.nii.gz"][1]


def test_patients_of_several_cases_stay_together(tmp_path: Path) -> None:
    for case in ("p1_a", "p1_b", "p2_a"):
        for channel in ("ct", "pet"):
            write(tmp_path / f"in/{case}_{channel}.nii.gz", 1)
    cases, _, _ = convert(tmp_path / "in", patient_pattern="^(p[0-9])")
    assert len({row["patient"] for row in cases}) == 2
    assert len(cases) == 3


def test_files_beside_dicom_are_cases_as_its_studies_are(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_study(source / "scanner", 1)
    for name, value in {"images/a_ct": 7, "images/a_pet": 8, "labels/a": 1, "images/b_ct": 7, "images/c": 3}.items():
        write(source / f"files/{name}.nii.gz", value)
    # In the folder of the patient's DICOM: an export of the same patient.
    for name in ("x_ct", "x_pet"):
        write(source / f"scanner/p1/{name}.nii.gz", 9)
    cases, rows, target = convert(source, labels={"tumour": 1})
    by_modality = {row["modality"]: row for row in cases}
    files = {row["case"]: row for row in cases if not row["modality"]}
    assert set(by_modality) == {"CT;PT", ""}
    assert len(cases) == 3
    assert {case for case, row in files.items() if row["label"]} == {"files_a"}
    assert read_values(target, files["files_a"]) == [7, 8, 1]
    assert files.keys() >= {"files_a"}
    (exported,) = (row for case, row in files.items() if case != "files_a")
    assert exported["patient"] == by_modality["CT;PT"]["patient"] != files["files_a"]["patient"]
    reasons = {row["source"]: row["reason"] for row in rows if row["verdict"] in {"quarantined", "skipped"}}
    assert "lacks the channel PET" in reasons["files/images/b_ct.nii.gz"]
    assert "ends in no channel's suffix" in reasons["files/images/c.nii.gz"]
    assert read_channel_rules(target).keys() == {"CT", "PET"}


def test_a_label_without_files_is_that_of_a_study(tmp_path: Path) -> None:
    source = tmp_path / "in"
    make_study(source, 1)
    for name in ("a_ct", "a_pet"):
        write(source / f"{name}.nii.gz", 7)
    cases, _, target = convert(source, labels={"tumour": 1})
    image = sitk.ReadImage(str(target / next(row for row in cases if row["modality"])["image"].split(";")[1]))
    label = sitk.Cast(image == image, sitk.sitkUInt8)  # noqa: PLR0124
    (source / "labels").mkdir()
    sitk.WriteImage(label, str(source / "labels/p1.nii.gz"))
    cases, _, target = convert(source, labels={"tumour": 1})
    assert {row["modality"]: bool(row["label"]) for row in cases} == {"CT;PT": True, "": False}


def test_numbers_beside_names_need_the_names_of_the_numbers(tmp_path: Path) -> None:
    source = tmp_path / "in"
    study = make_study(source, 1)
    masks = np.zeros((6, 9, 7, 1), np.uint8)
    masks[1:3, 2:4, 2:4, 0] = 1
    save(seg(study["CT"], masks, ["liver"]), source / "p1/label.dcm")
    for name, value in {"images/a_ct": 7, "images/a_pet": 8, "labels/a": 1}.items():
        write(source / f"files/{name}.nii.gz", value)
    cases, rows, _ = convert(source)
    assert [row["modality"] for row in cases] == ["CT;PT"]
    assert any("label files hold numbers, and other labels here have names" in row["reason"] for row in rows)
    cases, _, _ = convert(source, labels={"liver": 1})
    assert all(row["label"] for row in cases)
    assert len(cases) == 2


def test_suffixes_that_contradict_each_other_are_refused() -> None:
    for rules in ({"A": {"suffix": "_a"}, "B": {"modality": "CT"}}, {"A": {"suffix": "_a"}, "B": {"suffix": "_A"}}):
        with pytest.raises(ValueError, match="each channel needs a `suffix` of its own"):
            ConvertOptions.model_validate({"channels": rules})
