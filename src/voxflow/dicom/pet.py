"""The units of PET: from activity to standardised uptake values (SUV), where the attributes allow.

The formula is the vendor-neutral one of QIBA (SUV body weight): value in Bq/ml × weight in g / dose in Bq, with the
dose decayed from its injection to the time that the images were corrected to. Numbers are never guessed: where an
attribute is missing or contradicts another one, values stay in Bq/ml, and the table says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp, expm1, isclose, isfinite, log
from typing import TYPE_CHECKING, Any

from voxflow.dicom.enhanced import find_functional_group, read_frame_rescales
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

SUV, ACTIVITY = "SUVbw g/ml", "Bq/ml"
# The defined terms of PS3.3 C.8.9.1.1.3; anything else is told as such, since it may be any text.
KNOWN_UNITS = (
    *("CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "BQML", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML"),
    *("PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV"),
)
OTHER_UNITS = "other units"
# A dose below this is one in MBq, written where Bq belong.
MIN_DOSE_BQ = 1e5
MAX_DECAY = timedelta(days=1)
PHILIPS_GROUP, PHILIPS = 0x7053, "Philips PET Private Group"
PET_TAGS = (
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "DecayCorrected",
    "DecayCorrectionDateTime",
    "RadiopharmaceuticalInformationSequence",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "FrameReferenceTime",
    "ActualFrameDuration",
)


@dataclass(frozen=True)
class PetScale:
    """The factor that rescaled PET values are multiplied by, and the units of the product.

    Attributes:
        factor: 1 where they stay as the series states them.
        units: of the product.
        remark: why it is no SUV, in words, without any value of the patient's; else empty.
    """

    factor: float
    units: str
    remark: str = ""


class _NoSuvError(Exception):
    """Why a series is not turned into SUV; never leaves this module."""


def compute_suv_scale(datasets: Sequence[Dataset]) -> PetScale:
    """Compute the factor that turns the rescaled values of one PET series into SUV (body weight).

    Args:
        datasets: the headers of all its slices, or of its one multi-frame object.

    Returns:
        The factor; in place of SUV the weaker claim, with a remark, where the attributes do not allow it.

    Raises:
        DicomError: slices state different Units (0054,1001).

    Example:
        >>> from pydicom import Dataset
        >>> dose = Dataset()
        >>> dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = 4e8, 6586.2  # Bq of F-18, s
        >>> slice_header = Dataset()
        >>> slice_header.Units, slice_header.DecayCorrection, slice_header.PatientWeight = "BQML", "ADMIN", 80
        >>> slice_header.RadiopharmaceuticalInformationSequence = [dose]
        >>> compute_suv_scale([slice_header])  # 80 000 g / 4e8 Bq: corrected to the injection, so nothing has decayed
        PetScale(factor=0.0002, units='SUVbw g/ml', remark='')
    """
    units = sorted({_read_units(dataset) for dataset in datasets})
    if len(units) > 1:
        raise DicomError(f"slices state different units: {', '.join(units)}", where="(0054,1001)")
    first = datasets[0]
    real_world_factor = _read_real_world_factor(first)
    if real_world_factor is None:
        return PetScale(1.0, OTHER_UNITS, "not in SUV: RealWorldValueMappingSequence (0040,9096) maps frames unequally")
    if units[0] == "GML":
        return PetScale(real_world_factor, _name_suv(str(first.get("SUVType") or "BW")))
    # Philips states counts, and the factors in private elements.
    if units[0] == "CNTS" and _read_philips_factor(first, 0x00):
        return PetScale(_read_philips_factor(first, 0x00), SUV)
    to_activity = _read_philips_factor(first, 0x09) if units[0] == "CNTS" else real_world_factor
    if units[0] not in ("BQML", "CNTS") or not to_activity:
        return PetScale(real_world_factor, units[0], f"not in SUV: Units (0054,1001) are {units[0] or 'not stated'}")
    try:
        return PetScale(to_activity * _compute_suv_factor(datasets), SUV)
    except _NoSuvError as reason:
        return PetScale(to_activity, ACTIVITY, f"not in SUV: {reason}")


def _name_suv(suv_type: str) -> str:
    """Name the units of values that are SUV already, by SUVType (0054,1006)."""
    names = {"BW": SUV, "BSA": "SUVbsa g/ml", "IBW": "SUVibw g/ml"}
    lean_body_mass = dict.fromkeys(("LBM", "LBMJANMA", "LBMJAMES128"), "SUVlbm g/ml")
    return (names | lean_body_mass).get(suv_type, "SUV g/ml")


def read_stated_scale(datasets: Sequence[Dataset]) -> PetScale:
    """Read the units that a PET series states, and the factor to them: 1 but for a real-world value mapping.

    Args:
        datasets: the headers of all its slices, or of its one multi-frame object; the first one counts.
    """
    units, mapped = _read_units(datasets[0]), _read_real_world_factor(datasets[0])
    if mapped is None:
        return PetScale(1.0, OTHER_UNITS)
    return PetScale(mapped, {"BQML": ACTIVITY, "GML": SUV}.get(units, units))


def _compute_suv_factor(datasets: Sequence[Dataset]) -> float:
    """Weight in g divided by the dose in Bq at the time that the images are corrected to."""
    first = datasets[0]
    radiopharmaceutical = (first.get("RadiopharmaceuticalInformationSequence") or [None])[0]
    if radiopharmaceutical is None:
        raise _NoSuvError("RadiopharmaceuticalInformationSequence (0054,0016) is missing")
    weight = _read_positive(first, "PatientWeight", "(0010,1030)")
    dose = _read_positive(radiopharmaceutical, "RadionuclideTotalDose", "(0018,1074)")
    if dose < MIN_DOSE_BQ:
        raise _NoSuvError("RadionuclideTotalDose (0018,1074) is too small to be in Bq")
    corrected = {str(part).upper() for part in _as_list(first.get("CorrectedImage"))}
    if corrected and "ATTN" not in corrected:
        raise _NoSuvError("CorrectedImage (0028,0051) names no attenuation correction")
    correction = str(first.get("DecayCorrection") or "").upper()
    # Images corrected to the injection: at that moment nothing of the dose has decayed.
    if correction == "ADMIN":
        return weight * 1000 / dose
    if correction != "START" and str(first.get("DecayCorrected") or "") != "YES":
        raise _NoSuvError(f"DecayCorrection (0054,1102) is {correction or 'not stated'}")
    half_life = _read_positive(radiopharmaceutical, "RadionuclideHalfLife", "(0018,1075)")
    elapsed = _measure_decay_time(datasets, radiopharmaceutical, half_life)
    return weight * 1000 / (dose * exp(-log(2) * elapsed.total_seconds() / half_life))


def _measure_decay_time(datasets: Sequence[Dataset], radiopharmaceutical: Dataset, half_life: float) -> timedelta:
    """From the injection to the time that the images are decay corrected to."""
    corrected_to = _find_decay_reference(datasets, half_life)
    time = str(radiopharmaceutical.get("RadiopharmaceuticalStartTime") or "")
    same_day = _parse_datetime(corrected_to.strftime("%Y%m%d") + time) if time else None
    # A time of day alone: an injection after the scan was one of the day before.
    if same_day is not None and same_day > corrected_to:
        same_day -= timedelta(days=1)
    # Anonymizers shift dates, not always all of them; the time of day is then still right.
    for injected in (_parse_datetime(str(radiopharmaceutical.get("RadiopharmaceuticalStartDateTime") or "")), same_day):
        if injected is not None and timedelta(0) <= corrected_to - injected < MAX_DECAY:
            return corrected_to - injected
    raise _NoSuvError("RadiopharmaceuticalStartTime (0018,1072) is missing or not within a day before the scan")


def _find_decay_reference(datasets: Sequence[Dataset], half_life: float) -> datetime:
    stated = _parse_datetime(str(datasets[0].get("DecayCorrectionDateTime") or ""))
    if stated is not None:
        return stated
    series = _read_datetime(datasets[0], "Series")
    acquired = [moment for dataset in datasets if (moment := _read_datetime(dataset, "Acquisition")) is not None]
    if series is not None and (not acquired or series <= min(acquired)):
        return series
    if not acquired:
        raise _NoSuvError("neither SeriesTime (0008,0031) nor AcquisitionTime (0008,0032) can be read")
    # The series was made anew later on; each slice tells how far it lies behind the start of the scan.
    first = min(datasets, key=lambda dataset: _read_datetime(dataset, "Acquisition") or datetime.max)
    reference, duration = first.get("FrameReferenceTime"), first.get("ActualFrameDuration")
    if reference is None or duration is None:
        raise _NoSuvError("the series is younger than its acquisition, and FrameReferenceTime (0054,1300) is missing")
    rate = log(2) / half_life
    frame = rate * float(duration) / 1000
    # The moment within a frame at which activity equals the frame's mean, s after its start.
    middle = log(frame / -expm1(-frame)) / rate if frame > 0 else 0.0
    return min(acquired) + timedelta(seconds=middle - float(reference) / 1000)


def _read_units(dataset: Dataset) -> str:
    """Units (0054,1001), or what an enhanced object's real-world value mapping says, in the same words."""
    stated = str(dataset.get("Units") or "").strip().upper()
    if stated and stated not in KNOWN_UNITS:
        return OTHER_UNITS
    if stated or "SharedFunctionalGroupsSequence" not in dataset:
        return stated
    mapping = find_functional_group(dataset, 0, "RealWorldValueMappingSequence")
    codes = (mapping.get("MeasurementUnitsCodeSequence") if mapping is not None else None) or []
    code = str(codes[0].get("CodeValue", "")) if codes else ""
    return {"Bq/ml": "BQML", "{SUVbw}g/ml": "GML", "g/ml{SUVbw}": "GML"}.get(code, OTHER_UNITS if code else "")


def _read_real_world_factor(dataset: Dataset) -> float | None:
    """What brings rescaled values to those that the units of an enhanced object are about; None if no factor does.

    The units belong to the real-world value mapping, which counts from stored values and may differ from the rescale.
    """
    if dataset.get("Units") or "SharedFunctionalGroupsSequence" not in dataset:
        return 1.0
    factors = []
    for frame, (slope, intercept) in enumerate(read_frame_rescales(dataset)):
        mapping = find_functional_group(dataset, frame, "RealWorldValueMappingSequence")
        if mapping is None:
            return 1.0
        real = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
        if None in real or not slope:
            return None
        factors.append(float(real[0]) / slope)
        # A factor moves the zero of the rescale along; where the mapping has it elsewhere, none will do.
        if not isclose(float(real[1]), factors[-1] * intercept, rel_tol=1e-6, abs_tol=1e-9):
            return None
    return factors[0] if all(isclose(factor, factors[0], rel_tol=1e-5) for factor in factors) else None


def _read_philips_factor(dataset: Dataset, element: int) -> float:
    """Philips' factors from counts: to SUV (7053,xx00), to Bq/ml (7053,xx09); 0 where there is none."""
    try:
        value = float(dataset.private_block(PHILIPS_GROUP, PHILIPS)[element].value)
    except (KeyError, ValueError, TypeError):
        return 0.0
    return value if isfinite(value) and value > 0 else 0.0


def _read_positive(dataset: Dataset, keyword: str, tag: str) -> float:
    try:
        value = float(dataset.get(keyword) or 0)
    except (TypeError, ValueError):
        value = 0.0
    if not isfinite(value) or value <= 0:
        raise _NoSuvError(f"{keyword} {tag} is missing or no positive number")
    return value


def _read_datetime(dataset: Dataset, event: str) -> datetime | None:
    date, time = str(dataset.get(f"{event}Date") or ""), str(dataset.get(f"{event}Time") or "")
    return _parse_datetime(date + time) if date and time else None


def _parse_datetime(text: str) -> datetime | None:
    """YYYYMMDDHHMM[SS[.F]], as DA + TM or DT write it; zones are left out, since scan and injection share one."""
    digits = text.strip().split("+")[0].split("-")[0].replace(":", "")
    whole_seconds, _, fraction = digits.partition(".")
    try:
        moment = datetime.strptime(
            whole_seconds[:14].ljust(14, "0") if len(whole_seconds) >= 12 else "", "%Y%m%d%H%M%S"
        )
        return moment + timedelta(seconds=float(f"0.{fraction}") if fraction else 0)
    except ValueError:
        return None


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
