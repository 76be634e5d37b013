"""The units of PET: from activity to standardised uptake values (SUV), where the attributes allow.

Numbers are never guessed: where an attribute is missing or contradicts another one, values stay in Bq/ml, and the table
says why. ``suv.py`` computes the factor, ``pet_times.py`` how long the dose decayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose, isfinite
from typing import TYPE_CHECKING

from voxflow.dicom.pet_times import NoSuvError, read_number
from voxflow.dicom.suv import MAX_RECOVERY, compute_suv_factor
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydicom.dataset import Dataset

    from voxflow.dicom.headers import DicomAttributes

SUV, ACTIVITY = "SUVbw g/ml", "Bq/ml"
# The defined terms of PS3.3 C.8.9.1.1.3; anything else is told as such, since it may be any text.
KNOWN_UNITS = (
    *("CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "BQML", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML"),
    *("PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV"),
)
OTHER_UNITS = "other units"
# UCUM codes of a real-world value mapping, in the words of Units (0054,1001).
UCUM_UNITS = {"Bq/ml": "BQML", "Bq/mL": "BQML", "{SUVbw}g/ml": "GML", "g/ml{SUVbw}": "GML"}
# Philips states counts, and the factors to SUV and to Bq/ml in private elements of (7053,xx00) and (7053,xx09).
PHILIPS_GROUP, PHILIPS = 0x7053, "Philips PET Private Group"
PHILIPS_SUV, PHILIPS_ACTIVITY = "PhilipsSuvFactor", "PhilipsActivityFactor"
PHILIPS_ELEMENTS = {PHILIPS_SUV: 0x00, PHILIPS_ACTIVITY: 0x09}
PET_TAGS = (
    "Units",
    "SUVType",
    "CorrectedImage",
    "AttenuationCorrected",
    "DecayCorrection",
    "DecayCorrected",
    "DecayCorrectionDateTime",
    "RadiopharmaceuticalInformationSequence",
    "RealWorldValueMappingSequence",
    "PatientWeight",
    "TimezoneOffsetFromUTC",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "FrameReferenceTime",
    "ActualFrameDuration",
)


@dataclass(frozen=True)
class PetScale:
    """The factor that rescaled PET values are multiplied by, and the units of the product.

    Attributes:
        factor: 1 where they stay as the series states them.
        units: of the product.
        remark: why it is no SUV, or how a doubtful one was found, in words without any value of the patient's; else
            empty.
    """

    factor: float
    units: str
    remark: str = ""


def compute_suv_scale(datasets: Sequence[DicomAttributes], integral_ml: float = 0.0) -> PetScale:
    """Compute the factor that turns the rescaled values of one PET series into SUV (body weight).

    Args:
        datasets: what its slices or frames say; Philips' factors stand under :data:`PHILIPS_SUV` and its like.
        integral_ml: the sum of all rescaled values times the volume of a voxel in ml, which tells whether the activity
            can come from the dose; 0 where it is not known.

    Returns:
        The factor; in place of SUV the weaker claim, with a remark, where the attributes do not allow it.

    Raises:
        DicomError: slices state different Units (0054,1001).

    Example:
        >>> dose = {"RadionuclideTotalDose": 4e8, "RadionuclideHalfLife": 6586.2}  # Bq of F-18, s
        >>> slice_header = {"Units": "BQML", "DecayCorrection": "ADMIN", "PatientWeight": 80}
        >>> slice_header["RadiopharmaceuticalInformationSequence"] = [dose]
        >>> compute_suv_scale([slice_header])  # 80 000 g / 4e8 Bq: corrected to the injection, so nothing has decayed
        PetScale(factor=0.0002, units='SUVbw g/ml', remark='')
    """
    units = _read_common_units(datasets)
    real_world_factor = _find_common_factor(_compute_real_world_factor(dataset) for dataset in datasets)
    if real_world_factor is None:
        return PetScale(1.0, OTHER_UNITS, "not in SUV: RealWorldValueMappingSequence (0040,9096) maps frames unequally")
    suv_units = _name_suv(units, datasets)
    if suv_units:
        return _check_uptake(PetScale(real_world_factor, suv_units), datasets[0], integral_ml)
    to_activity: float | None = real_world_factor
    if units == "CNTS":
        to_suv = _find_common_factor(read_number(dataset, PHILIPS_SUV) for dataset in datasets)
        if to_suv and to_suv > 0:
            return _check_uptake(PetScale(to_suv, SUV), datasets[0], integral_ml)
        to_activity = _find_common_factor(read_number(dataset, PHILIPS_ACTIVITY) for dataset in datasets)
    if units not in ("BQML", "CNTS") or not to_activity or to_activity < 0:
        return PetScale(real_world_factor, units, f"not in SUV: Units (0054,1001) are {units or 'not stated'}")
    try:
        factor, remark = compute_suv_factor(datasets, integral_ml * to_activity)
    except NoSuvError as reason:
        return PetScale(to_activity, ACTIVITY, f"not in SUV: {reason}")
    return PetScale(to_activity * factor, SUV, remark)


def _check_uptake(scale: PetScale, dataset: DicomAttributes, integral_ml: float) -> PetScale:
    """Take back the claim of values that are SUV as stated, where they would be more than the dose.

    SUV is activity by dose and weight: times the volume in ml, the sum of all of it is the weight in g at most.
    """
    weight = read_number(dataset, "PatientWeight") or 0.0
    if weight <= 0 or integral_ml * scale.factor <= MAX_RECOVERY * weight * 1000:
        return scale
    times = integral_ml * scale.factor / (weight * 1000)
    return PetScale(1.0, OTHER_UNITS, f"not in SUV: the values stated so hold {times:.3g} times the dose")


def read_stated_scale(datasets: Sequence[DicomAttributes]) -> PetScale:
    """Read the units that a PET series states, and the factor to them: 1 but for a real-world value mapping.

    Args:
        datasets: what all its slices say, or all frames of its multi-frame object.

    Raises:
        DicomError: slices state different Units (0054,1001).
    """
    units = _read_common_units(datasets)
    mapped = _find_common_factor(_compute_real_world_factor(dataset) for dataset in datasets)
    if mapped is None:
        return PetScale(1.0, OTHER_UNITS)
    return PetScale(mapped, _name_suv(units, datasets) or {"BQML": ACTIVITY}.get(units, units))


def _read_common_units(datasets: Sequence[DicomAttributes]) -> str:
    units = sorted({_read_units(dataset) for dataset in datasets})
    if len(units) > 1:
        raise DicomError(f"slices state different units: {', '.join(units)}", where="(0054,1001)")
    return units[0]


def _name_suv(units: str, datasets: Sequence[DicomAttributes]) -> str:
    """Name the units of values that are SUV already, by SUVType (0054,1006); empty for all others."""
    suv_types = {str(dataset.get("SUVType") or "") for dataset in datasets}
    suv_type = suv_types.pop() if len(suv_types) == 1 else "several"
    if units == "CM2ML":
        return "SUVbsa cm2/ml" if suv_type == "BSA" else ""
    lean_body_mass = dict.fromkeys(("LBM", "LBMJANMA", "LBMJAMES128"), "SUVlbm g/ml")
    # PS3.3 C.8.9.1.1.3: body weight where no type is stated.
    names = {"": SUV, "BW": SUV, "IBW": "SUVibw g/ml"} | lean_body_mass
    return names.get(suv_type, "SUV g/ml") if units == "GML" else ""


def _read_units(dataset: DicomAttributes) -> str:
    """Units (0054,1001), or what an enhanced object's real-world value mapping says, in the same words."""
    stated = str(dataset.get("Units") or "").strip().upper()
    if stated:
        return stated if stated in KNOWN_UNITS else OTHER_UNITS
    mapping = _find_mapping(dataset)
    code = _read_unit_code(mapping) if mapping is not None else ""
    return UCUM_UNITS.get(code, OTHER_UNITS if code else "")


def _find_mapping(dataset: DicomAttributes) -> DicomAttributes | None:
    """The real-world value mapping whose units are known, else the first."""
    items = dataset.get("RealWorldValueMappingSequence") or []
    return next((item for item in items if _read_unit_code(item) in UCUM_UNITS), items[0] if items else None)


def _read_unit_code(mapping: DicomAttributes) -> str:
    codes = mapping.get("MeasurementUnitsCodeSequence") or []
    return str(codes[0].get("CodeValue") or "") if codes else ""


def _compute_real_world_factor(dataset: DicomAttributes) -> float | None:
    """What brings rescaled values to those that the units of an enhanced object are about; None if no factor does.

    The units belong to the real-world value mapping, which counts from stored values and may differ from the rescale.
    """
    mapping = _find_mapping(dataset)
    if str(dataset.get("Units") or "").strip() or mapping is None:
        return 1.0
    real = read_number(mapping, "RealWorldValueSlope"), read_number(mapping, "RealWorldValueIntercept")
    slope, intercept = read_number(dataset, "RescaleSlope"), read_number(dataset, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if real[0] is None or real[1] is None or not slope:
        return None
    factor = real[0] / slope
    # A factor moves the zero of the rescale along; where the mapping has it elsewhere, none will do.
    return factor if isclose(real[1], factor * intercept, rel_tol=1e-6, abs_tol=1e-9) else None


def _find_common_factor(factors: Iterable[float | None]) -> float | None:
    """The factor of all slices; None where they differ, or one of them has none."""
    values = list(factors)
    first = values[0]
    if first is None or not isfinite(first):
        return None
    return first if all(value is not None and isclose(value, first, rel_tol=1e-5) for value in values) else None


def read_philips_factors(dataset: Dataset) -> dict[str, float]:
    """Read Philips' private factors from counts, as :func:`compute_suv_scale` takes them; empty without any."""
    factors = {}
    for keyword, element in PHILIPS_ELEMENTS.items():
        try:
            factors[keyword] = float(dataset.private_block(PHILIPS_GROUP, PHILIPS)[element].value)
        except (KeyError, ValueError, TypeError):
            continue
    return factors
