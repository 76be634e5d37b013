"""PET in SUV where the attributes allow it, and said where they do not."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.dicom.objects import Series, item, save, stored
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HALF_LIFE = 6586.2
STATED: dict[str, Any] = {
    "Modality": "PT",
    "Units": "BQML",
    "RescaleIntercept": 0,
    "DecayCorrection": "START",
    "CorrectedImage": ["ATTN", "DECY"],
    "PatientWeight": 70,
    "SeriesDate": "20200102",
    "SeriesTime": "120000",
    "AcquisitionDate": "20200102",
    "AcquisitionTime": "120000.0",
}
DOSE = {"RadionuclideTotalDose": 3.5e8, "RadionuclideHalfLife": HALF_LIFE, "RadiopharmaceuticalStartTime": "110000.00"}


def converted(folder: Path, changes: dict[str, Any], dose: dict[str, Any] = DOSE, **options: Any) -> Any:
    """The volume as (slices, rows, columns), and its row in the table."""
    tags = STATED | changes | {"RadiopharmaceuticalInformationSequence": [item(**dose)]}
    series = Series(stored().clip(0), changes={k: v for k, v in tags.items() if v is not None})
    series.write(folder / "in")
    convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    with (folder / "out/conversion.csv").open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream))
    return read_volume(next((folder / "out/images").iterdir())).array.transpose(2, 1, 0), row


def times(factor: float) -> NDArray[np.float64]:
    return stored().clip(0) * factor


@pytest.mark.parametrize(
    ("changes", "decayed_s"),
    [
        ({}, 3600),
        ({"DecayCorrection": "ADMIN"}, 0),
        # Made anew an hour later: the start of the scan is the acquisition's, less the mean time into its frame.
        ({"SeriesTime": "130000", "FrameReferenceTime": 0, "ActualFrameDuration": 1}, 3600),
        ({"DecayCorrectionDateTime": "20200102113000.0"}, 1800),
    ],
)
def test_activity_becomes_suv_by_body_weight(tmp_path: Path, changes: dict[str, Any], decayed_s: float) -> None:
    array, row = converted(tmp_path, changes)
    assert row["units"] == "SUVbw g/ml"
    assert np.allclose(array, times(70_000 / (3.5e8 * 0.5 ** (decayed_s / HALF_LIFE))), rtol=1e-6)


def test_an_injection_before_midnight_lies_a_day_back(tmp_path: Path) -> None:
    array, _ = converted(tmp_path, {}, DOSE | {"RadiopharmaceuticalStartTime": "233000"})
    assert np.allclose(array, times(70_000 / (3.5e8 * 0.5 ** (12.5 * 3600 / HALF_LIFE))), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "dose", "reason"),
    [
        ({"PatientWeight": None}, DOSE, "not in SUV: PatientWeight (0010,1030) is missing or no positive number"),
        ({"PatientWeight": 0}, DOSE, "PatientWeight (0010,1030) is missing"),
        ({}, DOSE | {"RadionuclideTotalDose": 350}, "RadionuclideTotalDose (0018,1074) is too small to be in Bq"),
        ({"DecayCorrection": "NONE"}, DOSE, "DecayCorrection (0054,1102) is NONE"),
        ({"CorrectedImage": ["DECY"]}, DOSE, "CorrectedImage (0028,0051) names no attenuation correction"),
        ({}, DOSE | {"RadiopharmaceuticalStartTime": ""}, "RadiopharmaceuticalStartTime (0018,1072) is missing"),
        ({"SeriesTime": "130000"}, DOSE, "FrameReferenceTime (0054,1300) is missing"),
    ],
)
def test_activity_stays_where_the_attributes_do_not_allow_suv(
    tmp_path: Path, changes: dict[str, Any], dose: dict[str, Any], reason: str
) -> None:
    array, row = converted(tmp_path, changes, dose)
    assert (row["verdict"], row["units"]) == ("converted", "Bq/ml")
    assert reason in row["reason"]
    assert np.array_equal(array, times(1))


def test_values_that_are_suv_stay_as_they_are(tmp_path: Path) -> None:
    array, row = converted(tmp_path, {"Units": "GML"})
    assert (row["units"], row["reason"]) == ("SUVbw g/ml", "")
    assert np.array_equal(array, times(1))


def test_counts_are_no_activity(tmp_path: Path) -> None:
    array, row = converted(tmp_path, {"Units": "CNTS"})
    assert (row["units"], row["reason"]) == ("CNTS", "not in SUV: Units (0054,1001) are CNTS")
    assert np.array_equal(array, times(1))


def test_activity_can_be_asked_for(tmp_path: Path) -> None:
    array, row = converted(tmp_path, {}, pet="stated")
    assert row["units"] == "Bq/ml"
    assert np.array_equal(array, times(1))


def test_slices_in_different_units_are_quarantined(tmp_path: Path) -> None:
    Series(stored(), uid="1.2.1").write(tmp_path / "in/ct")
    changes = STATED | {"Units": ["BQML"] * 5 + ["GML"]}
    Series(stored(), changes=changes).write(tmp_path / "in/pt")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    assert "(0054,1001): slices state different units: BQML, GML" in summary.reasons[0]


def test_philips_counts_become_suv_by_their_own_factor(tmp_path: Path) -> None:
    series = Series(stored().clip(0), changes=STATED | {"Units": "CNTS"})
    for k, dataset in enumerate(series.datasets()):
        dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.0004")
        save(dataset, tmp_path / "in" / str(k))
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    assert np.allclose(array, times(0.0004), rtol=1e-6)


def test_padding_gets_the_lowest_measured_value(tmp_path: Path) -> None:
    values = stored().clip(-400)
    values[:, 0] = -2000
    Series(values, changes={"PixelPaddingValue": -2000}).write(tmp_path / "in")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    measured = values[:, 1:] - 100
    assert (array[:, 0] == measured.min()).all()
    assert np.array_equal(array[:, 1:], measured)


def test_a_range_of_padding_is_replaced_whole(tmp_path: Path) -> None:
    values = stored().clip(-400)
    values[:, 0, :3], values[:, 0, 3:] = -2000, -1990
    changes = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1900}
    Series(values, slopes=[0.5] * 6, changes=changes).write(tmp_path / "in")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    assert (array[:, 0] == values[:, 1:].min() * 0.5 - 100).all()
