"""Data sets in a known layout with hostile files in them."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxflow.errors import DataError
from voxflow.geometry import Geometry
from voxflow.images import list_files
from voxflow.layouts import recognise_layout
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def write_image(path: Path) -> None:
    write_volume(path, Volume(np.zeros((4, 4, 4), np.int16), Geometry.from_parts((4, 4, 4), (1, 1, 1))))


def test_a_segmentation_that_can_not_be_read_stops_no_other(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        write_image(tmp_path / name / "ct.nrrd")
    segments = "NRRD0004\nSegment0_ID:=1\nSegment0_Name:=spleen\nSegment0_LabelValue:={}\n\n"
    (tmp_path / "a/a.seg.nrrd").write_text(segments.format(1))
    (tmp_path / "b/b.seg.nrrd").write_text(segments.format("9" * 5000))
    (tmp_path / "c/c.seg.nrrd").write_bytes(b"\0" * 100)
    os.mkfifo(tmp_path / "d/d.seg.nrrd")
    layout = recognise_layout(tmp_path, list_files(tmp_path), "slicer")
    assert layout is not None
    assert [len(case.labels) for case in layout.cases].count(1) == 1
    reasons = {file.name: reason for file, reason in layout.unplaced.items()}
    assert reasons["b.seg.nrrd"] == "Segment0_LabelValue or Segment0_Layer is no whole number"
    assert reasons["c.seg.nrrd"] == "no NRRD file"
    assert reasons["d.seg.nrrd"] == "a named pipe, expected a file; it is not opened"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(bytes(100), "no workbook that can be read"), (None, "a workbook that unpacks to 41,943,040 bytes")],
)
def test_a_workbook_that_is_none_or_unpacks_without_end_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    write_image(tmp_path / "a.nii")
    path = tmp_path / "table.xlsx"
    if content is None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/worksheets/sheet1.xml", bytes(40 << 20))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        recognise_layout(tmp_path, list_files(tmp_path), "table")


@pytest.mark.parametrize(
    "notes",
    [
        3,
        {"label_values": [1]},
        {"label_values": {"1": "x"}},
        {"label_values": {"1": 10**9}},
        {"label_values": {"1": 0}},
        {"label_values": {"1": 5, "2": 5}},
        {"patients": ["a"]},
        {"value_names": {"x": "y"}},
    ],
)
def test_notes_that_are_none_are_refused(tmp_path: Path, notes: object) -> None:
    write_image(tmp_path / "imagesTr/a_0000.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}, "voxflow": notes}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"dataset\.json: voxflow"):
        recognise_layout(tmp_path, list_files(tmp_path), "nnunet")


@pytest.mark.parametrize("regions", [3, {"x": 1}, {"x": []}, {"x": [0]}, {"x": [10**9]}, {"x": ["y"]}])
def test_regions_that_are_none_are_refused(tmp_path: Path, regions: object) -> None:
    write_image(tmp_path / "imagesTr/a.nii.gz")
    content = {"modality": {"0": "CT"}, "labels": {"1": "x"}, "training": ["imagesTr/a.nii.gz"], "voxflow": {}}
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"regions": regions}))
    with pytest.raises(DataError, match=r"dataset\.json: regions"):
        recognise_layout(tmp_path, list_files(tmp_path), "msd")


@pytest.mark.parametrize("key", ["²", "9" * 5000])
def test_a_number_that_is_none_is_no_value(tmp_path: Path, key: str) -> None:
    write_image(tmp_path / "imagesTr/a_0000.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"0": "background", key: "spleen"}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected whole numbers from 0"):
        recognise_layout(tmp_path, list_files(tmp_path), "nnunet")


@pytest.mark.parametrize("value", [10**9, -1, 1.5, [[1]], "x", None, [10**12]])
def test_a_data_set_whose_classes_have_absurd_values_is_refused(tmp_path: Path, value: object) -> None:
    write_image(tmp_path / "imagesTr/a_0000.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": value}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"labels\.spleen: expected whole numbers from 0"):
        recognise_layout(tmp_path, list_files(tmp_path), "nnunet")


def test_a_workbook_whose_cells_stand_far_out_takes_little_memory(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="Excel tables need openpyxl")
    write_image(tmp_path / "a.nii")
    book = openpyxl.Workbook()
    for name, value in {"A1": "image", "A2": "a.nii", "XFD1": "far", "XFD2": "x", "A500": "a.nii"}.items():
        book.active[name] = value
    book.active["B1"] = "case"
    book.active["B2"], book.active["B500"] = 7, "last"
    book.save(tmp_path / "table.xlsx")
    layout = recognise_layout(tmp_path, list_files(tmp_path), "table")
    assert layout is not None
    assert [case.name for case in layout.cases] == ["7", "last"]


def test_a_workbook_of_too_many_rows_is_refused(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="Excel tables need openpyxl")
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"], book.active["A1048576"] = "image", "a.nii", "b.nii"
    book.save(tmp_path / "table.xlsx")
    with pytest.raises(DataError, match="more than 100,000 rows"):
        recognise_layout(tmp_path, list_files(tmp_path), "table")
