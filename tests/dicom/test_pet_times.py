"""Times, doses and half lives that contradict each other: SUV by a stated rule, or Bq/ml with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxflow.dicom.pet import ACTIVITY, SUV, compute_suv_scale
from voxflow.dicom.suv import HALF_LIVES

SCAN = datetime(2020, 1, 8, 11, tzinfo=UTC)
WEIGHT, DOSE = 70.0, 3.7e8
F18, RB82, ZR89, CU64 = 6586.2, 75.0, 282240.0, 45721.0


def slice_header(dose: dict[str, Any], **changes: Any) -> dict[str, Any]:
    header = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY"],
        "PatientWeight": WEIGHT,
        "SeriesDate": "20200108",
        "SeriesTime": "110000",
        "AcquisitionDate": "20200108",
        "AcquisitionTime": "110000",
        "RadiopharmaceuticalInformationSequence": [
            {"RadionuclideTotalDose": DOSE, "RadionuclideHalfLife": F18, "RadiopharmaceuticalStartTime": "100000"}
            | dose
        ],
    }
    return {keyword: value for keyword, value in (header | changes).items() if value is not None}


def expected_factor(elapsed: float, half_life: float) -> float:
    """The definition: g of the patient by Bq that are left of the dose."""
    return WEIGHT * 1000 / (DOSE * float(0.5 ** (elapsed / half_life)))


@pytest.mark.parametrize(
    ("dose", "changes", "elapsed"),
    [
        # After the scan's start, by seconds.
        ({"RadiopharmaceuticalStartTime": "110030"}, {}, -30),
        ({"RadiopharmaceuticalStartTime": "110010", "RadionuclideHalfLife": RB82}, {}, -10),
        ({"RadiopharmaceuticalStartDateTime": "20200108110200", "RadiopharmaceuticalStartTime": ""}, {}, -120),
        # Over midnight, in both directions.
        ({"RadiopharmaceuticalStartTime": "233000"}, {"SeriesTime": "003000", "AcquisitionTime": "003000"}, 3600),
        ({"RadiopharmaceuticalStartTime": "000010"}, {"SeriesTime": "235950", "AcquisitionTime": "235950"}, -20),
        # Days before: the date counts.
        ({"RadiopharmaceuticalStartDateTime": "20200102100000", "RadionuclideHalfLife": ZR89}, {}, 145 * 3600),
        (
            {
                "RadiopharmaceuticalStartDateTime": "20200107103000",
                "RadiopharmaceuticalStartTime": "103000",
                "RadionuclideHalfLife": CU64,
            },
            {},
            24.5 * 3600,
        ),
        # Zones: of the data set, of the injection, or of the injection alone, where its bare time reads the same.
        (
            {"RadiopharmaceuticalStartDateTime": "20200108090000+0000"},
            {"TimezoneOffsetFromUTC": "+0100"},
            3600,
        ),
        ({"RadiopharmaceuticalStartDateTime": "20200108100000-0500"}, {}, 3600),
        ({"RadiopharmaceuticalStartDateTime": "20200108100000"}, {"TimezoneOffsetFromUTC": "-0330"}, 3600),
        (
            {"RadiopharmaceuticalStartDateTime": "20200108100000+0200"},
            {"DecayCorrectionDateTime": "20200108093000+0100", "TimezoneOffsetFromUTC": "+0200"},
            1800,
        ),
        # A late frame of a dynamic scan: the series' start is the reference.
        ({}, {"AcquisitionTime": "114000", "FrameReferenceTime": 2_550_000, "ActualFrameDuration": 300_000}, 3600),
        # Made anew later on: FrameReferenceTime counts to the mean of the frame, or to its start where it is too short.
        (
            {"RadionuclideHalfLife": RB82},
            {
                "SeriesTime": "130000",
                "AcquisitionTime": "100130",
                "FrameReferenceTime": 0,
                "ActualFrameDuration": 60_000,
            },
            90,
        ),
        # Years of anonymizers.
        ({}, {"SeriesDate": "19000101", "AcquisitionDate": "19000101"}, 3600),
        ({}, {"SeriesDate": "00020101", "AcquisitionDate": "00020101"}, 3600),
        # A fraction of a second that only one of the times has.
        ({}, {"SeriesTime": "110000.6"}, 3600.6),
        # The nuclide's own half life, where only the nuclide is stated.
        ({"RadionuclideHalfLife": None, "RadionuclideCodeSequence": [{"CodeValue": "C-111A1"}]}, {}, 3600),
    ],
)
def test_the_real_interval_counts(dose: dict[str, Any], changes: dict[str, Any], elapsed: float) -> None:
    scale = compute_suv_scale([slice_header(dose, **changes)])
    half_life = dose.get("RadionuclideHalfLife") or F18
    assert (scale.units, scale.remark) == (SUV, "")
    assert scale.factor == pytest.approx(expected_factor(elapsed, half_life), rel=1e-9)


def test_a_shifted_date_leaves_the_time_of_day_and_is_told() -> None:
    scale = compute_suv_scale([slice_header({"RadiopharmaceuticalStartDateTime": "19700101100000"})])
    assert scale.units == SUV
    assert scale.factor == pytest.approx(expected_factor(3600, F18))
    assert scale.remark.startswith("the dates of injection and scan contradict each other")


@pytest.mark.parametrize(
    ("dose", "changes", "reason"),
    [
        ({"RadiopharmaceuticalStartTime": "120000"}, {}, "(0018,1072) lies 23 h before the moment"),
        (
            {"RadiopharmaceuticalStartTime": "120000", "RadiopharmaceuticalStartDateTime": "20200108120000"},
            {},
            "(0018,1078) lies 1 h after the moment that the images are corrected to",
        ),
        (
            {"RadiopharmaceuticalStartTime": "100000", "RadiopharmaceuticalStartDateTime": "20200108103000"},
            {},
            "(0018,1072) contradict each other",
        ),
        ({"RadionuclideHalfLife": ZR89}, {}, "no date of injection fits"),
        (
            {"RadiopharmaceuticalStartDateTime": "20200201100000", "RadionuclideHalfLife": ZR89},
            {},
            "no date of injection fits",
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20200108090000+0000"},
            {},
            "one time states a zone and another one none",
        ),
        ({}, {"SeriesTime": "101000"}, "(0054,1300) contradict each other"),
        (
            {},
            {"FrameReferenceTime": 1_098_000, "ActualFrameDuration": 180_000},
            "(0054,1300) contradict each other",
        ),
        ({}, {"DecayCorrectionDateTime": "20200110110000"}, "DecayCorrectionDateTime (0018,9701) and"),
        (
            {},
            {"AcquisitionDate": None, "AcquisitionTime": None, "AcquisitionDateTime": "20200108114000"},
            "(0054,1300) contradict each other",
        ),
        ({"RadionuclideHalfLife": 109.77}, {}, "(0018,1075) is 109.77 s, which no nuclide for PET has"),
        (
            {"RadionuclideHalfLife": 1221.8, "RadionuclideCodeSequence": [{"CodeValue": "77004003"}]},
            {},
            "(0018,1075) is 1221.8 s, and that of RadionuclideCodeSequence (0054,0300) is 6586.2 s",
        ),
        ({"RadionuclideTotalDose": 3.7e5}, {}, "is not within 5e+04 and 3e+09 Bq/kg"),
        ({}, {"PatientWeight": 70_000}, "(0010,1030) can't be right in kg"),
        ({"RadionuclideTotalDose": "nan"}, {}, "RadionuclideTotalDose (0018,1074) is missing or no positive number"),
        ({}, {"DecayCorrected": "NO"}, "DecayCorrection (0054,1102) and CorrectedImage (0028,0051) contradict"),
        ({}, {"CorrectedImage": ["ATTN"]}, "DecayCorrection (0054,1102) and CorrectedImage (0028,0051) contradict"),
        ({}, {"AttenuationCorrected": "NO"}, "names no attenuation correction"),
    ],
)
def test_what_contradicts_stays_in_activity(dose: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    scale = compute_suv_scale([slice_header(dose, **changes)])
    assert (scale.factor, scale.units) == (1.0, ACTIVITY)
    assert scale.remark.startswith("not in SUV: ")
    assert reason in scale.remark


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({}, {"SeriesTime": "110500"}, "slices state different values of SeriesTime (0008,0031)"),
        ({}, {"PatientWeight": 71}, "slices state different values of PatientWeight (0010,1030)"),
        ({}, {"SeriesTime": "110000.00"}, ""),
    ],
)
def test_slices_state_one_value(first: dict[str, Any], second: dict[str, Any], reason: str) -> None:
    scale = compute_suv_scale([slice_header({}, **first), slice_header({}, **second)])
    assert reason in scale.remark
    assert scale.units == (ACTIVITY if reason else SUV)


def test_two_doses_are_none() -> None:
    header = slice_header({})
    header["RadiopharmaceuticalInformationSequence"] *= 2
    assert compute_suv_scale([header]).units == SUV
    header["RadiopharmaceuticalInformationSequence"][1] = slice_header({"RadionuclideTotalDose": 2e8})[
        "RadiopharmaceuticalInformationSequence"
    ][0]
    assert "different values of RadionuclideTotalDose (0018,1074)" in compute_suv_scale([header]).remark


def test_images_hold_no_more_than_was_injected() -> None:
    left = DOSE * 0.5 ** (3600 / F18)
    assert compute_suv_scale([slice_header({})], integral_ml=1.9 * left).units == SUV
    scale = compute_suv_scale([slice_header({})], integral_ml=2.1 * left)
    assert (scale.units, scale.remark) == (ACTIVITY, "not in SUV: the images hold 2.1 times the activity of the dose")


NUCLIDES = sorted({seconds for seconds in HALF_LIVES.values() if 60 < seconds < 4e5})
# What spoils a header, in ways that hospitals, anonymizers and exports do.
FAULTS = (
    "none",
    "injection's date moved",
    "injection's bare time wrong",
    "series' time earlier",
    "half life in minutes",
    "dose in kBq",
    "weight in g",
    "weight unreadable",
    "dates of slices differ",
)


@st.composite
def pet_headers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], float, bool]:
    """The headers of a scan, its true factor, and whether they say enough to know it."""
    half_life = draw(st.sampled_from(NUCLIDES))
    is_short = half_life <= 3 * 3600
    longest = min(9.5 * half_life, 86400 - 700) if is_short else 9.5 * half_life
    elapsed = draw(st.integers(int(-0.95 * min(600, 2 * half_life)), int(longest)))
    start = SCAN + timedelta(seconds=draw(st.integers(0, 86399)))
    zone = timezone(timedelta(minutes=15 * draw(st.integers(-48, 56))))
    start = start.astimezone(zone)
    injected = start - timedelta(seconds=elapsed)
    style, fault = draw(st.sampled_from(["bare", "local", "with zone", "utc"])), draw(st.sampled_from(FAULTS))
    has_bare, states_zone = style == "bare" or draw(st.booleans()), draw(st.booleans())
    dose: dict[str, Any] = {
        "RadionuclideHalfLife": half_life / 60 if fault == "half life in minutes" else half_life,
        "RadionuclideTotalDose": DOSE / 1000 if fault == "dose in kBq" else DOSE,
        "RadiopharmaceuticalStartTime": f"{injected:%H%M%S}.00" if has_bare else None,
    }
    if fault == "half life in minutes":
        codes = next(codes for codes, seconds in HALF_LIVES.items() if seconds == half_life)
        dose["RadionuclideCodeSequence"] = [{"CodeValue": codes[0]}]
    if fault == "injection's bare time wrong" and style != "bare":
        wrong = injected + timedelta(seconds=draw(st.integers(int(half_life / 50) + 2, 43200)))
        dose["RadiopharmaceuticalStartTime"] = f"{wrong:%H%M%S}"
    if style != "bare":
        stated = injected
        if fault == "injection's date moved":
            # By so much that no nuclide lives on; less can't be told from another true date.
            stated += timedelta(days=draw(st.integers(60, 900)) * draw(st.sampled_from([1, -1])))
        stated = stated.astimezone(UTC) if style == "utc" else stated
        zone_text = "" if style == "local" else f"{stated:%z}"
        dose["RadiopharmaceuticalStartDateTime"] = f"{stated:%Y%m%d%H%M%S}{zone_text}"
    series = start - timedelta(seconds=3 * half_life + 700) if fault == "series' time earlier" else start
    changes: dict[str, Any] = {
        "PatientWeight": {"weight in g": WEIGHT * 1000, "weight unreadable": "nan"}.get(fault, WEIGHT),
        "SeriesDate": f"{series:%Y%m%d}",
        "SeriesTime": f"{series:%H%M%S}",
        "AcquisitionDate": f"{start:%Y%m%d}",
        "AcquisitionTime": f"{start:%H%M%S}.0",
        "TimezoneOffsetFromUTC": f"{start:%z}" if states_zone else None,
    }
    headers = [slice_header(dose, **changes), slice_header(dose, **changes)]
    if fault == "dates of slices differ":
        headers[1]["SeriesDate"] = f"{series + timedelta(days=3):%Y%m%d}"
    zones_fit = style in ("bare", "local") or states_zone or (style == "with zone" and has_bare)
    return headers, expected_factor(elapsed, half_life), fault == "none" and zones_fit and (style != "bare" or is_short)


@settings(max_examples=400, deadline=None)
@given(pet_headers())
def test_contradicting_headers_end_in_the_true_suv_or_in_activity_with_a_reason(
    case: tuple[list[dict[str, Any]], float, bool],
) -> None:
    headers, factor, is_clear = case
    scale = compute_suv_scale(headers)
    assert isfinite(scale.factor)
    assert scale.units in (SUV, ACTIVITY)
    if is_clear:
        assert (scale.units, scale.remark) == (SUV, "")
    if scale.units == SUV:
        # 1 %: within it, times that differ by seconds say the same.
        assert scale.factor == pytest.approx(factor, rel=0.011)
    else:
        assert scale.factor == 1.0
        assert scale.remark.startswith("not in SUV: ")


TEXTS = st.sampled_from(
    ["", "0", "nan", "inf", "-1", "20200108", "20200108110000", "110000", "999999", "1e400", "x", "\0"]
)


NAMES = [
    *("Units", "DecayCorrection", "CorrectedImage", "PatientWeight", "SeriesDate", "SeriesTime", "AcquisitionDate"),
    *("AcquisitionTime", "DecayCorrectionDateTime", "TimezoneOffsetFromUTC", "FrameReferenceTime"),
    "ActualFrameDuration",
]
DOSE_NAMES = [
    *("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"),
    "RadiopharmaceuticalStartDateTime",
]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS), st.dictionaries(st.sampled_from(DOSE_NAMES), TEXTS))
def test_rubbish_never_raises_and_never_becomes_a_factor_that_can_not_be(
    changes: dict[str, str], dose: dict[str, str]
) -> None:
    scale = compute_suv_scale([slice_header(dose, **changes)])
    assert isfinite(scale.factor)
    assert scale.units != SUV or 1e-9 < scale.factor < 10
    assert scale.units == SUV or scale.remark
