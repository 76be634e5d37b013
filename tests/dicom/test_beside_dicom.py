"""Folders that hold DICOM and other images: all are converted or listed, and the owner finds each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.dicom.objects import Series, random_values, rtstruct, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, read_volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

SLICES, ROWS, COLUMNS = random_values().shape
GRID = Geometry.from_parts((COLUMNS, ROWS, SLICES), (1, 1.5, 2))
TRIANGLE = np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])


def write_image(path: Path) -> None:
    write_volume(path, Volume(np.random.default_rng(0).normal(size=GRID.size).astype(np.float32), GRID))


def write_label(path: Path, grid: Geometry = GRID) -> None:
    write_volume(path, Volume(np.ones(grid.size, np.uint8), grid))


def convert(folder: Path, **options: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of conversion.csv, and those of cases.csv."""
    convert_folder(
        folder / "in", folder / "out", ConvertOptions.model_validate({"pseudonym_key": "k", "workers": 1} | options)
    )
    return read_table(folder / "out/conversion.csv"), read_table(folder / "out/cases.csv")


def test_an_output_below_the_source_is_no_input_the_next_time(tmp_path: Path) -> None:
    Series(random_values()).write(tmp_path / "in/ct")
    options = ConvertOptions(pseudonym_key="k", workers=1, mapping=False)
    counts = [convert_folder(tmp_path / "in", tmp_path / "in/out", options).cases for _ in range(2)]
    assert counts == [1, 1]


@pytest.mark.parametrize("slices", [1, SLICES])
def test_dicom_hides_no_other_images(tmp_path: Path, slices: int) -> None:
    Series(random_values()[:slices]).write(tmp_path / "in/extra")
    for name in "ab":
        write_image(tmp_path / f"in/imagesTr/{name}.nii.gz")
        write_label(tmp_path / f"in/labelsTr/{name}.nii.gz")
    rows, cases = convert(tmp_path, mapping=False)
    assert [row["source"] for row in cases if row["label"]] == ["imagesTr/a.nii.gz", "imagesTr/b.nii.gz"]
    assert len(cases) == (2 if slices == 1 else 3)
    assert sum(int(row["files"]) for row in rows) == slices + 4


@pytest.mark.parametrize(
    ("dicom", "label"),
    [
        ("images/case1", "labels/case1.nii.gz"),
        ("images/case1/dicom", "labels/case1_seg.nii.gz"),
        ("case1/ct", "case1/seg.nii.gz"),
        ("case1", "case1/tumour_mask.nii.gz"),
        ("x/y", "masks/1.2.77.nii.gz"),
    ],
)
def test_a_label_file_goes_to_the_series_of_its_name(tmp_path: Path, dicom: str, label: str) -> None:
    Series(random_values(), uid="1.2.77").write(tmp_path / "in" / dicom)
    Series(random_values(), uid="1.2.78", patient="other").write(tmp_path / "in/images/case2")
    write_label(tmp_path / "in" / label)
    rows, cases = convert(tmp_path, mapping=False)
    assert {row["series_uid"]: bool(row["label"]) for row in cases} == {"1.2.77": True, "1.2.78": False}
    assert [row["verdict"] for row in rows] == ["converted"] * 3
    (labelled,) = [row for row in cases if row["label"]]
    assert read_volume(tmp_path / "out" / labelled["label"]).geometry.is_close(GRID, 1e-3)


def test_a_label_file_that_fits_no_series_is_listed_and_stops_nothing(tmp_path: Path) -> None:
    Series(random_values(), uid="1.2.1").write(tmp_path / "in/images/case1")
    Series(random_values(), uid="1.2.2").write(tmp_path / "in/images/case2")
    Series(random_values()[:2], uid="1.2.3").write(tmp_path / "in/images/case3")
    write_label(tmp_path / "in/labels/case1.nii.gz", Geometry.from_parts(GRID.size, (1, 1.5, 3)))
    write_label(tmp_path / "in/labels/case2.nii.gz")
    write_label(tmp_path / "in/masks/case2.nii.gz")
    write_label(tmp_path / "in/labels/case3.nii.gz")
    write_label(tmp_path / "in/labels/case9.nii.gz")
    rows, cases = convert(tmp_path, mapping=False)
    by_source = {row["source"]: (row["verdict"], row["reason"]) for row in rows}
    assert not [row for row in cases if row["label"]]
    assert by_source["labels/case1.nii.gz"][1].startswith("its grid is not the image's")
    assert by_source["labels/case2.nii.gz"][1].startswith("2 files are the label of one DICOM series")
    assert by_source["labels/case3.nii.gz"] == ("skipped", "its image series was quarantined")
    assert "SeriesInstanceUID" in by_source["labels/case9.nii.gz"][1]


def test_a_label_file_beside_a_label_object_is_listed(tmp_path: Path) -> None:
    Series(random_values(), frame="1.2.9").write(tmp_path / "in/images/case1")
    save(rtstruct([TRIANGLE], frame="1.2.9", name="Part"), tmp_path / "in/rt")
    write_label(tmp_path / "in/labels/case1.nii.gz")
    rows, cases = convert(tmp_path, mapping=False, labels={"Part": 1})
    assert cases[0]["label_source"] == "rtstruct"
    (row,) = [row for row in rows if row["source"] == "labels/case1.nii.gz"]
    assert (row["verdict"], row["reason"]) == (
        "quarantined",
        "its image has a label object (SEG, RTSTRUCT) already; keep one of both",
    )


def test_an_export_to_nifti_is_of_the_same_patient(tmp_path: Path) -> None:
    Series(random_values(), uid="1.2.1", patient="P1").write(tmp_path / "in/P1/dicom")
    Series(random_values(), uid="1.2.2", patient="P2").write(tmp_path / "in/P2/dicom")
    write_image(tmp_path / "in/P1/ct.nii.gz")
    write_image(tmp_path / "in/other.nii.gz")
    _, cases = convert(tmp_path, mapping=False)
    patients = {row["series_uid"] or row["source"].rpartition("/")[2]: row["patient"] for row in cases}
    assert patients["ct.nii.gz"] == patients["1.2.1"]
    assert len(set(patients.values())) == 3
    assert len({row["case"] for row in cases}) == 4


def test_names_of_dicom_folders_are_in_the_mapping_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_MAPPING_FOLDER", str(tmp_path / "mapping"))
    Series(random_values(), uid="1.2.1").write(tmp_path / "in/MARKER^NAME/a")
    Series(random_values()[:2], uid="1.2.2").write(tmp_path / "in/MARKER^NAME/b")
    write_image(tmp_path / "in/MARKER^NAME/nifti.nii.gz")
    write_label(tmp_path / "in/MARKER^NAME/lone_seg.nii.gz")
    for name in ("broken.nii.gz", "MARKER.txt", "MARKER.unknown", "MARKER.dcm"):
        (tmp_path / f"in/MARKER^NAME/{name}").write_text("text")
    rows, cases = convert(tmp_path)
    assert len(cases) == 2
    for path in (tmp_path / "out").glob("*.*"):
        assert "MARKER" not in path.read_text(encoding="utf-8")
    (mapping,) = (tmp_path / "mapping").glob("*.csv")
    lines = read_table(mapping)
    assert sorted(line["source"] for line in lines) == [
        "MARKER^NAME/MARKER.dcm",
        "MARKER^NAME/MARKER.txt",
        "MARKER^NAME/MARKER.unknown",
        "MARKER^NAME/a",
        "MARKER^NAME/b",
        "MARKER^NAME/broken.nii.gz",
        "MARKER^NAME/lone_seg.nii.gz",
        "MARKER^NAME/nifti.nii.gz",
    ]
    assert {(line["row"], line["name"]) for line in lines} == {(row["series"], row["source"]) for row in rows}
