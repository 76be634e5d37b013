"""Rules of what the numbers in a volume mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import Series, item, new, pixels, random_values, save
from tests.dicom.test_pet import DOSE, HALF_LIFE, STATED
from tests.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START, CLOCK = "RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"


def write_pet(
    inside: dict[str, Any], outside: dict[str, Any], *, dose: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
) -> Callable[[Path, bool], None]:
    """Write a PET whose header has some attributes inside of a rule, and others outside; F-18, 12:00, of 11:00."""

    def write(folder: Path, is_inside: bool) -> None:
        radiopharmaceutical = item(**DOSE | dose[0 if is_inside else 1])
        tags = STATED | {"RadiopharmaceuticalInformationSequence": [radiopharmaceutical]}
        Series(random_values().clip(0), changes=tags | (inside if is_inside else outside)).write(folder)

    return write


def write_ct(inside: dict[str, Any], outside: dict[str, Any]) -> Callable[[Path, bool], None]:
    def write(folder: Path, is_inside: bool) -> None:
        Series(random_values(), changes=inside if is_inside else outside).write(folder)

    return write


def write_activity(folder: Path, is_inside: bool) -> None:
    """What was injected, times 1.9 or 2.1, as an hour later."""
    dose, values = 3.6e6, random_values().clip(0)
    left = dose * 0.5 ** (3600 / HALF_LIFE)
    voxel_ml = 1.5 * 1.0 * 2.0 / 1000
    slope = float(f"{(1.9 if is_inside else 2.1) * left / (values.sum() * voxel_ml):.9g}")
    radiopharmaceutical = item(**DOSE | {"RadionuclideTotalDose": dose})
    tags = STATED | {"RadiopharmaceuticalInformationSequence": [radiopharmaceutical], "RescaleSlope": slope}
    Series(values, changes=tags).write(folder)


def write_padding(folder: Path, is_inside: bool) -> None:
    values = np.full((6, 9, 7), -2000, np.int16)
    values[0, 0, 0] = 0 if is_inside else -2000
    Series(values, changes={"PixelPaddingValue": -2000}).write(folder)


def write_radiograph(folder: Path, is_inside: bool) -> None:
    dataset = new(DigitalXRayImageStorageForPresentation, "DX", str(generate_uid()))
    pixels(dataset, np.arange(60, dtype=np.uint16).reshape(6, 10), 12)
    dataset.PresentationLUTShape = "INVERSE"
    dataset.PhotometricInterpretation = "MONOCHROME1" if is_inside else "MONOCHROME2"
    save(dataset, folder / "one")


def check_suv(inside: Path, outside: Path) -> None:
    assert [read_units(folder) for folder in (inside, outside)] == [["SUVbw g/ml"], ["Bq/ml"]]


def check_hounsfield(inside: Path, outside: Path) -> None:
    assert [read_units(folder) for folder in (inside, outside)] == [["HU"], [""]]


def read_units(folder: Path) -> list[str]:
    return [row["units"] for row in read_table(folder / "cases.csv")]


def pet_rule(name: str, write: Callable[[Path, bool], None], reason: str) -> Rule:
    return Rule(name, write, f"not in SUV: {reason}", "converted", check=check_suv)


RULES = [
    pet_rule(
        "weight",
        write_pet({"PatientWeight": 70}, {"PatientWeight": 0}),
        "PatientWeight (0010,1030) is missing or no positive number",
    ),
    pet_rule(
        "dose by weight",
        write_pet({}, {}, dose=({"RadionuclideTotalDose": 5.1e4 * 70}, {"RadionuclideTotalDose": 4.9e4 * 70})),
        "RadionuclideTotalDose (0018,1074) by PatientWeight (0010,1030) is not within 5e+04 and 3e+09 Bq/kg",
    ),
    pet_rule("activity", write_activity, "the images hold 2.1 times the activity of the dose"),
    pet_rule(
        "half life",
        write_pet(
            {},
            {},
            dose=(
                {"RadionuclideHalfLife": 6700, "RadionuclideCodeSequence": [item(CodeValue="C-111A1")]},
                {"RadionuclideHalfLife": 6800, "RadionuclideCodeSequence": [item(CodeValue="C-111A1")]},
            ),
        ),
        "RadionuclideHalfLife (0018,1075) is 6800 s, and that of RadionuclideCodeSequence (0054,0300) is 6586.2 s",
    ),
    pet_rule(
        "injection after the scan's start",
        write_pet({}, {}, dose=({CLOCK: "", START: "20200102120950"}, {CLOCK: "", START: "20200102121100"})),
        "RadiopharmaceuticalStartDateTime (0018,1078) lies 0.1833 h after the moment that the images are corrected to",
    ),
    pet_rule(
        "injection long before the scan",
        write_pet({}, {}, dose=({CLOCK: "", START: "20200101180000"}, {CLOCK: "", START: "20200101170000"})),
        "RadiopharmaceuticalStartDateTime (0018,1078) lies 19 h before the moment that the images are corrected to",
    ),
    pet_rule(
        "time of day alone",
        write_pet({}, {}, dose=({}, {"RadionuclideHalfLife": 45721})),
        "no date of injection fits, RadiopharmaceuticalStartDateTime (0018,1078), and the nuclide lives for days",
    ),
    pet_rule(
        "two times of injection",
        write_pet({}, {}, dose=({START: "20200102110130"}, {START: "20200102110200"})),
        "RadiopharmaceuticalStartDateTime (0018,1078) and RadiopharmaceuticalStartTime (0018,1072) contradict each "
        "other",
    ),
    pet_rule(
        "time zones",
        write_pet(
            {"TimezoneOffsetFromUTC": "+0100"},
            {},
            dose=({START: "20200102100000+0000"}, {START: "20200102100000+0000"}),
        ),
        "one time states a zone and another one none, not even TimezoneOffsetFromUTC (0008,0201)",
    ),
    pet_rule(
        "start of series and frame",
        write_pet(
            {"FrameReferenceTime": 600_000, "ActualFrameDuration": 60_000, "SeriesTime": "114600"},
            {"FrameReferenceTime": 600_000, "ActualFrameDuration": 60_000, "SeriesTime": "114500"},
        ),
        "SeriesTime (0008,0031), AcquisitionTime (0008,0032) and FrameReferenceTime (0054,1300) contradict each other",
    ),
    pet_rule(
        "corrections",
        write_pet({"CorrectedImage": ["DECY", "ATTN"]}, {"CorrectedImage": ["ATTN", "SCAT"]}),
        "DecayCorrection (0054,1102) and CorrectedImage (0028,0051) contradict each other",
    ),
    pet_rule(
        "one value for all slices",
        write_pet({"SeriesTime": ["120000"] * 5 + ["120000.0"]}, {"SeriesTime": ["120000"] * 5 + ["120001"]}),
        "slices state different values of SeriesTime (0008,0031)",
    ),
    Rule(
        "values stated as SUV",
        write_pet({"Units": "GML"}, {"Units": "GML", "PatientWeight": 0.0003}),
        "not in SUV: the values stated so hold",
        "converted",
    ),
    Rule(
        "grey values",
        write_ct({}, {"PhotometricInterpretation": "PALETTE COLOR"}),
        "expected grey pixels, received PALETTE COLOR: its values are indices of a palette",
    ),
    Rule(
        "Hounsfield units",
        write_ct({"RescaleType": "HU"}, {"RescaleType": "US"}),
        "not in HU: RescaleType (0028,1054) is US",
        "converted",
        check=check_hounsfield,
    ),
    Rule(
        "one rescale a volume",
        write_ct({"RescaleSlope": 1}, {"RescaleSlope": [1] * 5 + [None]}),
        "1 of 6 slices state no RescaleSlope, the others do",
    ),
    Rule(
        "one unit a volume",
        write_ct({"RescaleType": ["HU"] * 5 + [""]}, {"RescaleType": ["HU"] * 5 + ["MGML"]}),
        "slices state different units: HU, MGML",
    ),
    Rule("padding", write_padding, "all pixels are padding"),
    Rule("bright end", write_radiograph, "INVERSE contradicts PhotometricInterpretation MONOCHROME2"),
]
