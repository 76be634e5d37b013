"""Radiographs: dense is bright, findings come from a CSV or a folder's name."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from tests.dicom.objects import new, pixels, save
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.findings import findings_from_folders, read_findings
from voxflow.dicom.radiograph import read_radiograph_object
from voxflow.errors import DataError, DicomError
from voxflow.volumes import read_radiograph, write_radiograph

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(60, dtype=np.uint16).reshape(6, 10) * 60


def radiograph(values: Any = VALUES, *, bits: int = 12, patient: str = "A", **changes: Any) -> Any:
    d = new(ComputedRadiographyImageStorage, "CR", str(generate_uid()), patient)
    pixels(d, values, bits)
    for keyword, value in changes.items():
        setattr(d, keyword, value)
    return d


def test_monochrome1_is_inverted_in_the_range_of_the_stored_bits(tmp_path: Path) -> None:
    path = save(radiograph(4095 - VALUES, PhotometricInterpretation="MONOCHROME1"), tmp_path / "x")
    array, _ = read_radiograph_object(path)
    assert np.array_equal(array, VALUES)


def test_signed_values_begin_at_zero(tmp_path: Path) -> None:
    signed = (VALUES.astype(np.int32) - 2048).astype(np.int16)
    array, _ = read_radiograph_object(save(radiograph(signed), tmp_path / "x"))
    assert np.array_equal(array, VALUES)


def test_the_detectors_spacing_serves_where_no_other_is_given(tmp_path: Path) -> None:
    path = save(radiograph(ImagerPixelSpacing=[0.14, 0.15]), tmp_path / "x")
    assert read_radiograph_object(path)[1] == (0.14, 0.15)


def test_colour_is_refused(tmp_path: Path) -> None:
    path = save(radiograph(SamplesPerPixel=3, PhotometricInterpretation="RGB"), tmp_path / "x")
    with pytest.raises(DicomError, match=r"\(0028,0004\): expected grey pixels, received RGB"):
        read_radiograph_object(path)


def test_findings_reach_their_images_and_the_others_stay_unknown(tmp_path: Path) -> None:
    first, second = radiograph(), radiograph(patient="B")
    save(first, tmp_path / "in/1")
    save(second, tmp_path / "in/2")
    (tmp_path / "in/f.csv").write_text(f"sop_instance_uid,patient_id,mass,effusion\n{first.SOPInstanceUID},A,1,0\n")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(findings="f.csv", pseudonym_key="k"))
    rows = {row["series_uid"]: row for row in table(tmp_path / "out/cases.csv")}
    known, unknown = rows[first.SeriesInstanceUID], rows[second.SeriesInstanceUID]
    assert [known["finding:mass"], known["finding:effusion"], known["label_source"]] == ["1", "0", "csv"]
    assert [unknown["finding:mass"], unknown["label_source"]] == ["", ""]
    assert (summary.cases, summary.labelled) == (2, 1)
    assert np.array_equal(read_radiograph(tmp_path / "out" / known["image"]), VALUES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,mass\n", "no column names the image; expected one of sop_instance_uid"),
        ("file,mass\na,2\na,1\n", "row 2: mass='2'; expected 0, 1 or nothing; row 3 names an image for the second"),
        ("file,mass\na\n", "row 2 has 1 values, the header 2"),
        ("", "no column names the image"),
    ],
)
def test_faults_of_a_findings_table_are_named_by_row(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_findings(tmp_path / "f.csv")


def test_a_missing_findings_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"f\.csv: file not found"):
        read_findings(tmp_path / "f.csv")


def test_folders_name_findings_and_normal_means_none() -> None:
    findings = findings_from_folders({"a": "normal", "b": "mass", "c": "effusion"})
    assert findings.names == ("effusion", "mass")
    assert (findings.of("a"), findings.of("b"), findings.of("?")) == ((0, 0), (0, 1), (None, None))


def test_png_folders_become_findings_and_numbers_patients(tmp_path: Path) -> None:
    for name in ("normal/0001_000", "normal/0001_001", "mass/0002_000"):
        write_radiograph(tmp_path / f"in/{name}.png", VALUES)
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k"))
    rows = table(tmp_path / "out/cases.csv")
    assert (summary.cases, summary.patients) == (3, 2)
    assert [row["finding:mass"] for row in rows] == ["1", "0", "0"]
    assert rows[1]["patient"] == rows[2]["patient"] != rows[0]["patient"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
