"""Radiographs: dense is bright, findings come from a CSV or a folder's name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from tests.dicom.objects import item, new, pixels, save
from tests.tables import read_table
from voxflow.cli.convert import ConvertCommand
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.dicom.radiograph import read_radiograph_object
from voxflow.errors import DataError, DicomError
from voxflow.images import read_findings, read_findings_from_folders
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


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [0, 4095])
@pytest.mark.parametrize("window", [None, (2000.0, 3000.0), "stated"])
@pytest.mark.parametrize("bits", [8, 16])
def test_padding_is_the_darkest(tmp_path: Path, kind: str, padding: int, window: Any, bits: int) -> None:
    values = VALUES + 200
    values[:2] = padding
    changes: dict[str, Any] = {"PhotometricInterpretation": kind, "WindowCenter": 2000, "WindowWidth": 3000}
    plain, _ = read_radiograph_object(save(radiograph(values, **changes), tmp_path / "a"), window=window, bits=bits)
    padded = radiograph(values, PixelPaddingValue=padding, **changes)
    picture, _ = read_radiograph_object(save(padded, tmp_path / "b"), window=window, bits=bits)
    assert (picture[:2] == 0).all()
    assert np.array_equal(picture[2:], plain[2:])


def test_padding_of_a_lossy_radiograph_is_dark_where_it_has_its_value(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1", "LossyImageCompression": "01"}
    picture, _ = read_radiograph_object(save(radiograph(VALUES, PixelPaddingValue=0, **changes), tmp_path / "a"))
    assert np.array_equal(picture, np.where(VALUES == 0, 0, 4095 - VALUES))


def test_a_range_of_padding_is_darkest_whole_unless_it_is_all(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095}
    picture, _ = read_radiograph_object(
        save(radiograph(VALUES, PixelPaddingRangeLimit=3000, **changes), tmp_path / "a")
    )
    assert np.array_equal(picture, np.where(VALUES >= 3000, 0, 4095 - VALUES))
    with pytest.raises(DicomError, match=r"\(0028,0120\): all pixels are padding"):
        read_radiograph_object(save(radiograph(VALUES, PixelPaddingRangeLimit=0, **changes), tmp_path / "b"))


def test_attributes_that_contradict_each_other_on_what_is_bright_are_refused(tmp_path: Path) -> None:
    inverse: dict[str, Any] = {"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}
    picture, _ = read_radiograph_object(save(radiograph(**inverse), tmp_path / "a"))
    assert np.array_equal(picture, 4095 - VALUES)
    path = save(radiograph(PresentationLUTShape="INVERSE"), tmp_path / "b")
    with pytest.raises(DicomError, match=r"\(2050,0020\): INVERSE contradicts PhotometricInterpretation MONOCHROME2"):
        read_radiograph_object(path)


def test_a_table_or_slope_that_turns_values_around_turns_the_picture(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "slope": {"RescaleSlope": -1, "RescaleIntercept": 4095},
        "table": {"ModalityLUTSequence": [voi_lut()]},
        "window": {"VOILUTSequence": [voi_lut()]},
    }
    for name, change in changes.items():
        picture, _ = read_radiograph_object(save(radiograph(**change), tmp_path / name))
        assert np.array_equal(picture, 4095 - VALUES)


def test_palette_indices_are_no_radiograph(tmp_path: Path) -> None:
    path = save(radiograph(PhotometricInterpretation="PALETTE COLOR"), tmp_path / "x")
    with pytest.raises(DicomError, match=r"\(0028,0004\): expected grey pixels, received PALETTE COLOR"):
        read_radiograph_object(path)


def test_signed_values_begin_at_zero(tmp_path: Path) -> None:
    signed = (VALUES.astype(np.int32) - 2048).astype(np.int16)
    array, _ = read_radiograph_object(save(radiograph(signed), tmp_path / "x"))
    assert np.array_equal(array, VALUES)


def test_the_detectors_spacing_serves_where_no_other_is_given(tmp_path: Path) -> None:
    path = save(radiograph(ImagerPixelSpacing=[0.14, 0.15]), tmp_path / "x")
    assert read_radiograph_object(path)[1] == (0.14, 0.15)


def voi_lut(values: Any = range(4095, -1, -1), bits: int = 12) -> Any:
    return item(LUTDescriptor=[4096, 0, bits], LUTData=np.array(values, "<u2").tobytes())


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 1500, "WindowWidth": 900},
        {"WindowCenter": [1200, 99], "WindowWidth": [1, 99]},
        {"WindowCenter": 1500.5, "WindowWidth": 800.5, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 90, "WindowWidth": 300, "RescaleSlope": 0.25, "RescaleIntercept": -200},
        {"VOILUTSequence": [voi_lut()], "WindowCenter": 1, "WindowWidth": 2},
    ],
)
def test_a_stated_window_gives_what_pydicom_shows(tmp_path: Path, window: dict[str, Any]) -> None:
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        path = save(radiograph(PhotometricInterpretation=kind, **window), tmp_path / kind)
        dataset = pydicom.dcmread(path)
        expected = apply_voi_lut(apply_modality_lut(VALUES, dataset), dataset).astype(float)
        if "RescaleSlope" in window:
            # pydicom answers in the rescaled values' range.
            expected = (expected - window["RescaleIntercept"]) / window["RescaleSlope"]
        grey = expected / 4095 if kind == "MONOCHROME2" else 1 - expected / 4095
        for bits in (8, 16):
            array, _ = read_radiograph_object(path, window="stated", bits=bits)
            assert array.dtype == f"uint{bits}"
            assert np.abs(array - grey * (2**bits - 1)).max() <= 0.5 + 1e-6
            assert array.min() < array.max()


def test_a_table_of_eight_bits_reaches_beyond_its_first_entries(tmp_path: Path) -> None:
    table = voi_lut(np.arange(4096) // 16, bits=8)
    array, _ = read_radiograph_object(save(radiograph(VOILUTSequence=[table]), tmp_path / "x"), window="stated", bits=8)
    assert np.array_equal(array, VALUES // 16)


def test_a_window_by_params_spreads_its_values_over_all_of_the_grey(tmp_path: Path) -> None:
    save(radiograph(), tmp_path / "in/1")
    options = ["--window", "1500", "1000", "--radiograph-bits", "8"]
    parser = argparse.ArgumentParser()
    ConvertCommand.add_arguments(parser)
    parsed = parser.parse_args([str(tmp_path / "in"), str(tmp_path / "out"), *options])
    assert ConvertCommand.read(parsed).run() == 0
    array = read_radiograph(next((tmp_path / "out/images").iterdir()))
    assert array.dtype == np.uint8
    # PS3.3 C.11.2.1.2.1 for c = 1500, w = 1000.
    expected = np.clip((VALUES - 1499.5) / 999 + 0.5, 0, 1) * 255
    assert np.array_equal(array, np.rint(expected))


def test_eight_bits_without_a_window_keep_the_range_of_the_stored_ones(tmp_path: Path) -> None:
    array, _ = read_radiograph_object(save(radiograph(), tmp_path / "x"), bits=8)
    assert np.array_equal(array, np.rint(VALUES / 4095 * 255))


@pytest.mark.parametrize(
    ("window", "changes", "reason"),
    [
        ("stated", {}, r"\(0028,1050\): a window is asked for, and the radiograph states none"),
        ("stated", {"WindowCenter": 3, "WindowWidth": 0}, "no window: centre 3, width 0"),
        ("stated", {"WindowCenter": 3, "WindowWidth": 9, "VOILUTFunction": "X"}, "unknown function 'X'"),
        ("stated", {"VOILUTSequence": [voi_lut(bits=20)]}, "a VOI LUT of 20 bits; expected 8 to 16"),
        ("stated", {"VOILUTSequence": [voi_lut([1, 2])]}, "a VOI LUT of 4096 entries holds 4"),
        ((3.0, 0.5), {}, "no window: centre 3, width 0.5"),
    ],
)
def test_windows_that_can_not_be_are_named(tmp_path: Path, window: Any, changes: Any, reason: str) -> None:
    with pytest.raises(DicomError, match=reason):
        read_radiograph_object(save(radiograph(**changes), tmp_path / "x"), window=window)


@pytest.mark.parametrize("options", [{"window": "bone"}, {"window": [3]}, {"window": [3, 0]}, {"radiograph_bits": 12}])
def test_windows_and_bits_are_checked_before_anything_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"window|radiograph_bits"):
        ConvertOptions.model_validate(options)


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
    rows = {row["series_uid"]: row for row in read_table(tmp_path / "out/cases.csv")}
    rows_by_uid, unknown = rows[first.SeriesInstanceUID], rows[second.SeriesInstanceUID]
    assert [rows_by_uid["finding:mass"], rows_by_uid["finding:effusion"], rows_by_uid["label_source"]] == [
        "1",
        "0",
        "csv",
    ]
    assert [unknown["finding:mass"], unknown["label_source"]] == ["", ""]
    assert (summary.cases, summary.labelled) == (2, 1)
    assert np.array_equal(read_radiograph(tmp_path / "out" / rows_by_uid["image"]), VALUES)


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
    findings = read_findings_from_folders({"a": "normal", "b": "mass", "c": "effusion"})
    assert findings.names == ("effusion", "mass")
    assert (findings.look_up("a"), findings.look_up("b"), findings.look_up("?")) == ((0, 0), (0, 1), (None, None))


def test_png_folders_become_findings_and_numbers_patients(tmp_path: Path) -> None:
    for name in ("normal/0001_000", "normal/0001_001", "mass/0002_000"):
        write_radiograph(tmp_path / f"in/{name}.png", VALUES)
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k"))
    rows = read_table(tmp_path / "out/cases.csv")
    assert (summary.cases, summary.patients) == (3, 2)
    assert [row["finding:mass"] for row in rows] == ["1", "0", "0"]
    assert rows[1]["patient"] == rows[2]["patient"] != rows[0]["patient"]
