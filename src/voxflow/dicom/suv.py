"""The factor from activity (Bq/ml) to standardised uptake values by body weight, and whether it can be right.

The formula is the vendor-neutral one of QIBA: weight in g / dose in Bq, with the dose decayed from its injection to the
moment that the images are corrected to. A number that can't be right, or of which slices state different ones, raises
:class:`NoSuvError` with the reason.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

from voxflow.dicom.pet_times import NoSuvError, measure_decay_time, read_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom.headers import DicomAttributes

# A dose below this is one in MBq or mCi, written where Bq belong.
MIN_DOSE_BQ = 1e5
MIN_WEIGHT_KG, MAX_WEIGHT_KG = 0.005, 500
# Bq/kg: from a small dose of I-124 in an adult to a large one in a mouse; kBq for Bq and g for kg lie outside.
MIN_DOSE_BY_WEIGHT, MAX_DOSE_BY_WEIGHT = 5e4, 3e9
# The images can't hold more activity than was injected; twice as much leaves room for noise and for the calibrations.
MAX_RECOVERY = 2.0
# Vendors state half lives that differ by up to two percent (Rb-82: 75 and 76.4 s).
HALF_LIFE_TOLERANCE = 0.025

# Half lives of CID 4020 in s (ENSDF), with the nuclide's code in SNOMED CT or DCM and in SNOMED RT.
HALF_LIVES: dict[tuple[str, str], float] = {
    ("424875009", "C-1018C"): 70.6,  # O-14
    ("79197006", "C-159A2"): 76.4,  # Rb-82; scanners state 75 to 76.4
    ("129504001", "C-B1038"): 122.2,  # O-15
    ("423764008", "C-135A4"): 458.2,  # K-38
    ("422934004", "C-127A5"): 580.4,  # Cu-62
    ("21576001", "C-107A1"): 597.9,  # N-13
    ("40565003", "C-105A1"): 1221.8,  # C-11
    ("126607", ""): 1266.0,  # Mn-52m
    ("425364008", "C-127A4"): 1422.0,  # Cu-60
    ("126601", ""): 2772.0,  # Mn-51
    ("424079002", "C-163AA"): 3120.0,  # Tc-94m
    ("126602", ""): 3156.0,  # As-70
    ("35337001", "C-131A3"): 4062.6,  # Ga-68
    ("17910003", "C-113A1"): 5802.0,  # Br-75
    ("77004003", "C-111A1"): 6586.2,  # F-18
    ("75696008", "C-166A2"): 11088.0,  # Ti-45
    ("71425003", "C-127A1"): 12020.0,  # Cu-61
    ("126605", ""): 14007.6,  # Sc-43
    ("126600", ""): 14551.2,  # Sc-44
    ("87437000", "C-116A2"): 25740.0,  # Se-73
    ("69089000", "C-130A1"): 29790.0,  # Fe-52
    ("65054007", "C-141A1"): 33094.8,  # Zn-62
    ("79477007", "C-131A1"): 34164.0,  # Ga-66
    ("3932008", "C-127A2"): 45723.6,  # Cu-64
    ("126603", ""): 52560.0,  # Nb-90
    ("10738001", "C-162A3"): 53064.0,  # Y-86
    ("79523006", "C-113A2"): 58320.0,  # Br-76
    ("126606", ""): 63000.0,  # Tb-152
    ("2705002", "C-115A2"): 93600.0,  # As-72
    ("86521004", "C-113A3"): 205560.0,  # Br-77
    ("14691008", "C-162A7"): 230652.0,  # Y-90
    ("63360001", "C-168A4"): 282276.0,  # Zr-89
    ("40937006", "C-114A5"): 360806.4,  # I-124
    ("37225000", "C-149A1"): 483062.4,  # Mn-52
    ("53315004", "C-128A2"): 23410080.0,  # Ge-68
    ("71633006", "C-155A1"): 82050000.0,  # Na-22
}
_AGREEING = (
    "PatientWeight (0010,1030)",
    "DecayCorrection (0054,1102)",
    "DecayCorrected (0018,9758)",
    "DecayCorrectionDateTime (0018,9701)",
    "AttenuationCorrected (0018,9759)",
    "CorrectedImage (0028,0051)",
    "SeriesDate (0008,0021)",
    "SeriesTime (0008,0031)",
    "TimezoneOffsetFromUTC (0008,0201)",
)
_OF_THE_DOSE = (
    "RadionuclideTotalDose (0018,1074)",
    "RadionuclideHalfLife (0018,1075)",
    "RadiopharmaceuticalStartTime (0018,1072)",
    "RadiopharmaceuticalStartDateTime (0018,1078)",
)


def compute_suv_factor(datasets: Sequence[DicomAttributes], activity_bq: float = 0.0) -> tuple[float, str]:
    """Compute weight in g by the dose in Bq at the moment that the images are corrected to.

    Args:
        datasets: the headers of all slices.
        activity_bq: what the images hold in all, at that moment; 0 where it is not known.

    Returns:
        The factor, above 0; and a remark on how it was found, or "".

    Raises:
        NoSuvError: an attribute is missing, contradicts another one, or makes no factor that can be right.
    """
    first = datasets[0]
    _check_agreement(datasets, _AGREEING)
    doses = [item for dataset in datasets for item in dataset.get("RadiopharmaceuticalInformationSequence") or []]
    if not doses:
        raise NoSuvError("RadiopharmaceuticalInformationSequence (0054,0016) is missing")
    _check_agreement(doses, _OF_THE_DOSE)
    weight, dose = _read_weight_and_dose(first, doses[0])
    correction = _check_corrections(first)
    half_lives, remark = 0.0, ""
    # Images corrected to the injection: at that moment nothing of the dose has decayed.
    if correction != "ADMIN":
        half_life = _read_half_life(doses[0])
        elapsed, remark = measure_decay_time(datasets, doses[0], half_life)
        half_lives = elapsed / half_life
    decayed = dose * 2.0**-half_lives
    if activity_bq > MAX_RECOVERY * decayed:
        raise NoSuvError(f"the images hold {activity_bq / decayed:.3g} times the activity of the dose")
    return weight * 1000 / decayed, remark


def _read_weight_and_dose(dataset: DicomAttributes, radiopharmaceutical: DicomAttributes) -> tuple[float, float]:
    """PatientWeight in kg and RadionuclideTotalDose in Bq, if they go together."""
    weight = _read_positive(dataset, "PatientWeight", "(0010,1030)")
    dose = _read_positive(radiopharmaceutical, "RadionuclideTotalDose", "(0018,1074)")
    if dose < MIN_DOSE_BQ:
        raise NoSuvError("RadionuclideTotalDose (0018,1074) is too small to be in Bq")
    if not MIN_WEIGHT_KG <= weight <= MAX_WEIGHT_KG:
        raise NoSuvError(f"PatientWeight (0010,1030) can't be right in kg; expected {MIN_WEIGHT_KG} to {MAX_WEIGHT_KG}")
    if not MIN_DOSE_BY_WEIGHT <= dose / weight <= MAX_DOSE_BY_WEIGHT:
        raise NoSuvError(
            "RadionuclideTotalDose (0018,1074) by PatientWeight (0010,1030) is not within "
            f"{MIN_DOSE_BY_WEIGHT:.0e} and {MAX_DOSE_BY_WEIGHT:.0e} Bq/kg"
        )
    return weight, dose


def _check_agreement(datasets: Sequence[DicomAttributes], names: Sequence[str]) -> None:
    """Slices of one series state one value; a dose of two tracers, or of two times, is none."""
    for name in names:
        if len({_make_comparable(dataset.get(name.split()[0])) for dataset in datasets}) > 1:
            raise NoSuvError(f"slices state different values of {name}")


def _make_comparable(value: Any) -> float | str:
    """A number where it is one: 110000 and 110000.00 are one time."""
    text = str("" if value is None else value).strip()
    try:
        return float(text)
    except ValueError:
        return text


def _check_corrections(dataset: DicomAttributes) -> str:
    """The decay correction, START or ADMIN, of images that are corrected for attenuation as well."""
    value = dataset.get("CorrectedImage")
    corrected = {str(part).upper() for part in ([value] if isinstance(value, str) else value or []) if part}
    if (corrected and "ATTN" not in corrected) or str(dataset.get("AttenuationCorrected") or "") == "NO":
        raise NoSuvError("CorrectedImage (0028,0051) names no attenuation correction")
    correction = str(dataset.get("DecayCorrection") or "").strip().upper()
    is_stated = correction in ("START", "ADMIN") or (not correction and dataset.get("DecayCorrected") == "YES")
    if not is_stated:
        raise NoSuvError(f"DecayCorrection (0054,1102) is {_name_correction(correction)}")
    if dataset.get("DecayCorrected") == "NO" or (corrected and not corrected & {"DECY", "DECAY"}):
        raise NoSuvError("DecayCorrection (0054,1102) and CorrectedImage (0028,0051) contradict each other")
    return correction


def _name_correction(correction: str) -> str:
    return "NONE" if correction == "NONE" else "an unknown term" if correction else "not stated"


def _read_half_life(radiopharmaceutical: DicomAttributes) -> float:
    """RadionuclideHalfLife (0018,1075) if the nuclide has it; the nuclide's own where none is stated."""
    items = radiopharmaceutical.get("RadionuclideCodeSequence") or []
    code = str(items[0].get("CodeValue") or "") if items else ""
    of_nuclide = next((seconds for codes, seconds in HALF_LIVES.items() if code and code in codes), None)
    if of_nuclide and radiopharmaceutical.get("RadionuclideHalfLife") in (None, ""):
        return of_nuclide
    stated = _read_positive(radiopharmaceutical, "RadionuclideHalfLife", "(0018,1075)")
    if of_nuclide and abs(stated / of_nuclide - 1) > HALF_LIFE_TOLERANCE:
        raise NoSuvError(
            f"RadionuclideHalfLife (0018,1075) is {stated:g} s, and that of RadionuclideCodeSequence (0054,0300) is "
            f"{of_nuclide:g} s"
        )
    nearest = min(HALF_LIVES.values(), key=lambda seconds: abs(log(stated / seconds)))
    if not of_nuclide and abs(stated / nearest - 1) > HALF_LIFE_TOLERANCE:
        raise NoSuvError(f"RadionuclideHalfLife (0018,1075) is {stated:g} s, which no nuclide for PET has")
    return stated


def _read_positive(dataset: DicomAttributes, keyword: str, tag: str) -> float:
    value = read_number(dataset, keyword)
    if value is None or value <= 0:
        raise NoSuvError(f"{keyword} {tag} is missing or no positive number")
    return value
