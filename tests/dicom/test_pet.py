"""PET in SUV where the attributes allow it, and said where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedPETImageStorage, generate_uid

from tests.dicom.objects import FRAME, IDENTITY, Series, item, new, random_values, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
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


def convert_pet(folder: Path, changes: dict[str, Any], dose: dict[str, Any] = DOSE, **options: Any) -> Any:
    """The volume as (slices, rows, columns), and its row in the table."""
    tags = STATED | changes | {"RadiopharmaceuticalInformationSequence": [item(**dose)]}
    series = Series(random_values().clip(0), changes={k: v for k, v in tags.items() if v is not None})
    series.write(folder / "in")
    convert_folder(folder / "in", folder / "out", ConvertOptions(pseudonym_key="k", workers=1, **options))
    row = read_table(folder / "out/conversion.csv")[0]
    return read_volume(next((folder / "out/images").iterdir())).array.transpose(2, 1, 0), row


def times(factor: float) -> NDArray[np.float64]:
    return random_values().clip(0) * factor


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
    array, row = convert_pet(tmp_path, changes)
    assert row["units"] == "SUVbw g/ml"
    assert np.allclose(array, times(70_000 / (3.5e8 * 0.5 ** (decayed_s / HALF_LIFE))), rtol=1e-6)


def test_an_injection_before_midnight_lies_a_day_back(tmp_path: Path) -> None:
    array, _ = convert_pet(tmp_path, {}, DOSE | {"RadiopharmaceuticalStartTime": "233000"})
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
    array, row = convert_pet(tmp_path, changes, dose)
    assert (row["verdict"], row["units"]) == ("converted", "Bq/ml")
    assert reason in row["reason"]
    assert np.array_equal(array, times(1))


def test_values_that_are_suv_stay_as_they_are(tmp_path: Path) -> None:
    array, row = convert_pet(tmp_path, {"Units": "GML"})
    assert (row["units"], row["reason"]) == ("SUVbw g/ml", "")
    assert np.array_equal(array, times(1))


def test_values_stated_as_suv_hold_no_more_than_the_dose(tmp_path: Path) -> None:
    # 635 ml of SUV 1: a patient of 0.3 g is too light for it.
    array, row = convert_pet(tmp_path, {"Units": "GML", "PatientWeight": 0.0003})
    assert row["units"] == "other units"
    assert "not in SUV: the values stated so hold 2." in row["reason"]
    assert np.array_equal(array, times(1))


def test_frames_of_a_dynamic_scan_share_its_start(tmp_path: Path) -> None:
    """Rb-82, injected 10 s after the start; three frames of 30 s in one series, decay corrected to the start."""
    drug = item(**DOSE | {"RadionuclideHalfLife": 75, "RadiopharmaceuticalStartTime": "120010"})
    for n in range(3):
        frame = {
            "RadiopharmaceuticalInformationSequence": [drug],
            "AcquisitionTime": f"12{30 * n // 60:02d}{30 * n % 60:02d}",
            "FrameReferenceTime": 30_000 * n + 14_500,
            "ActualFrameDuration": 30_000,
            "TemporalPositionIdentifier": n + 1,
        }
        for k, dataset in enumerate(Series(random_values(seed=n).clip(0), uid="1.2.3").datasets()):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            for keyword, value in (STATED | frame).items():
                setattr(dataset, keyword, value)
            save(dataset, tmp_path / f"in/{n}{k}")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    factor = 70_000 / (3.5e8 * 2 ** (10 / 75))
    cases = read_table(tmp_path / "out/cases.csv")
    for n, case in enumerate(cases):
        array = read_volume(tmp_path / "out" / case["image"]).array.transpose(2, 1, 0)
        assert np.allclose(array, random_values(seed=n).clip(0) * factor, rtol=1e-6)
    assert [case["units"] for case in cases] == ["SUVbw g/ml"] * 3


def test_counts_are_no_activity(tmp_path: Path) -> None:
    array, row = convert_pet(tmp_path, {"Units": "CNTS"})
    assert (row["units"], row["reason"]) == ("CNTS", "not in SUV: Units (0054,1001) are CNTS")
    assert np.array_equal(array, times(1))


def test_activity_can_be_asked_for(tmp_path: Path) -> None:
    array, row = convert_pet(tmp_path, {}, pet="stated")
    assert row["units"] == "Bq/ml"
    assert np.array_equal(array, times(1))


def test_slices_in_different_units_are_quarantined(tmp_path: Path) -> None:
    Series(random_values(), uid="1.2.1").write(tmp_path / "in/ct")
    changes = STATED | {"Units": ["BQML"] * 5 + ["GML"]}
    Series(random_values(), changes=changes).write(tmp_path / "in/pt")
    summary = convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    assert "(0054,1001): slices state different units: BQML, GML" in summary.reasons[0]


def test_philips_counts_become_suv_by_their_own_factor(tmp_path: Path) -> None:
    series = Series(random_values().clip(0), changes=STATED | {"Units": "CNTS"})
    for k, dataset in enumerate(series.datasets()):
        dataset.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0x00, "DS", "0.0004")
        save(dataset, tmp_path / "in" / str(k))
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    assert np.allclose(array, times(0.0004), rtol=1e-6)


def test_padding_gets_the_lowest_measured_value(tmp_path: Path) -> None:
    values = random_values().clip(-400)
    values[:, 0] = -2000
    Series(values, changes={"PixelPaddingValue": -2000}).write(tmp_path / "in")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    measured = values[:, 1:] - 100
    assert (array[:, 0] == measured.min()).all()
    assert np.array_equal(array[:, 1:], measured)


def test_a_range_of_padding_is_replaced_whole(tmp_path: Path) -> None:
    values = random_values().clip(-400)
    values[:, 0, :3], values[:, 0, 3:] = -2000, -1990
    changes = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1900}
    Series(values, slopes=[0.5] * 6, changes=changes).write(tmp_path / "in")
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    array = read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0)
    assert (array[:, 0] == values[:, 1:].min() * 0.5 - 100).all()


SUV_CODE, ACTIVITY_CODE = "{SUVbw}g/ml", "Bq/ml"


def write_enhanced_pet(
    path: Path, code: str, real_world_factor: float = 1.0, slopes: Sequence[float] = (0.5,) * 6, **changes: Any
) -> None:
    """An enhanced PET of one volume; ``real_world_factor`` is what its real-world values are to its rescaled ones."""
    d = new(EnhancedPETImageStorage, "PT", str(generate_uid()))
    d.FrameOfReferenceUID, d.ImageType = FRAME, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.NumberOfFrames, d.Rows, d.Columns, d.SamplesPerPixel = 6, 9, 7, 1
    d.PhotometricInterpretation, d.BitsAllocated, d.BitsStored, d.HighBit = "MONOCHROME2", 16, 16, 15
    d.PixelRepresentation, d.PatientWeight, d.DecayCorrected = 1, 70, "YES"
    d.DecayCorrectionDateTime = "20200102120000"
    d.RadiopharmaceuticalInformationSequence = [
        item(
            RadionuclideTotalDose=3.5e8,
            RadionuclideHalfLife=HALF_LIFE,
            RadiopharmaceuticalStartDateTime="20200102110000",
        )
    ]
    d.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1], SliceThickness=2)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(IDENTITY))],
        )
    ]
    units = [item(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning=code)]
    d.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])],
            PixelValueTransformationSequence=[item(RescaleSlope=slopes[k], RescaleIntercept=0, RescaleType="US")],
            RealWorldValueMappingSequence=[
                item(
                    RealWorldValueSlope=slopes[k] * real_world_factor,
                    RealWorldValueIntercept=0.0,
                    MeasurementUnitsCodeSequence=units,
                )
            ],
        )
        for k in range(6)
    ]
    d.PixelData = random_values().clip(0).astype("<i2").tobytes()
    for keyword, value in changes.items():
        setattr(d, keyword, value)
    save(d, path)


def read_enhanced(tmp_path: Path) -> tuple[NDArray[Any], dict[str, str]]:
    convert_folder(tmp_path / "in", tmp_path / "out", ConvertOptions(pseudonym_key="k", workers=1))
    row = read_table(tmp_path / "out/conversion.csv")[0]
    return read_volume(next((tmp_path / "out/images").iterdir())).array.transpose(2, 1, 0), row


PER_ACTIVITY = 70_000 / (3.5e8 * 0.5 ** (3600 / HALF_LIFE))


@pytest.mark.parametrize(
    ("code", "real_world_factor", "factor"),
    [
        (ACTIVITY_CODE, 1.0, PER_ACTIVITY),
        (ACTIVITY_CODE, 4.0, 4 * PER_ACTIVITY),
        (SUV_CODE, 1.0, 1),
        (SUV_CODE, 0.01, 0.01),
    ],
)
def test_an_enhanced_object_becomes_suv_by_its_own_units(
    tmp_path: Path, code: str, real_world_factor: float, factor: float
) -> None:
    slopes = (0.5, 1, 2, 0.25, 3, 4)
    write_enhanced_pet(tmp_path / "in/one", code, real_world_factor, slopes)
    array, row = read_enhanced(tmp_path)
    assert row["units"] == "SUVbw g/ml"
    expected = random_values().clip(0) * np.array(slopes)[:, None, None] * factor
    assert np.allclose(array, expected, rtol=1e-6)
    # The mapping itself, frame by frame, from stored values.
    theirs = np.stack([apply_rwm(tmp_path / "in/one", k) for k in range(6)])
    assert np.allclose(array, theirs * (PER_ACTIVITY if code == ACTIVITY_CODE else 1), rtol=1e-6)


def apply_rwm(path: Path, frame: int) -> NDArray[Any]:
    """PS3.3 C.7.6.16.2.11: stored value times RealWorldValueSlope plus RealWorldValueIntercept."""
    dataset = pydicom.dcmread(path)
    mapping = dataset.PerFrameFunctionalGroupsSequence[frame].RealWorldValueMappingSequence[0]
    return np.asarray(dataset.pixel_array[frame] * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept)


@pytest.mark.parametrize(
    ("code", "changes", "units", "reason"),
    [
        (ACTIVITY_CODE, {"PatientWeight": None}, "Bq/ml", "PatientWeight (0010,1030) is missing"),
        (ACTIVITY_CODE, {"DecayCorrected": "NO"}, "Bq/ml", "DecayCorrection (0054,1102) is not stated"),
        ("MARKER", {}, "other units", "Units (0054,1001) are other units"),
    ],
)
def test_an_enhanced_object_that_states_too_little_stays_as_it_is(
    tmp_path: Path, code: str, changes: dict[str, Any], units: str, reason: str
) -> None:
    write_enhanced_pet(tmp_path / "in/one", code, **changes)
    array, row = read_enhanced(tmp_path)
    assert row["units"] == units
    assert reason in row["reason"]
    assert np.allclose(array, times(0.5))


def test_real_world_values_that_no_factor_reaches_are_said_to_be_others(tmp_path: Path) -> None:
    write_enhanced_pet(tmp_path / "in/one", ACTIVITY_CODE)
    dataset = pydicom.dcmread(tmp_path / "in/one")
    dataset.PerFrameFunctionalGroupsSequence[2].RealWorldValueMappingSequence[0].RealWorldValueIntercept = 7.0
    save(dataset, tmp_path / "in/one")
    array, row = read_enhanced(tmp_path)
    assert (row["units"], "maps frames unequally" in row["reason"]) == ("other units", True)
    assert np.allclose(array, times(0.5))
