"""What the numbers of a CT or MR volume measure; for PET see ``pet.py``.

Hounsfield units are claimed only where the object is a CT image that states them, or may leave them out. All else keeps
its values, under the unit that it states or under none, and the table says why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.headers import DicomAttributes

UNIT_TAGS = ("RescaleType", "ImageType")
# The defined terms of PS3.3 C.11.1.1.2, less US (unspecified).
RESCALE_TYPES = ("OD", "HU", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
# CT Image, Enhanced CT, Legacy Converted Enhanced CT; an X-Ray 3D image (cone beam) has grey values of its own.
CT_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
# Values of ImageType (0008,0008) by which vendors and PS3.3 C.8.15.1.1 mark CT that is computed to something else, or
# whose grey values are not calibrated.
NOT_HU_TYPES = frozenset(
    (
        *("CBF", "CBV", "MTT", "TTP", "TTD", "TTS", "TMAX", "PERFUSION", "PERMEABILITY", "CBF_MAP", "CBV_MAP", "PBV"),
        *("IODINE", "IODINE_MAP", "CALCIUM", "URIC_ACID", "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED"),
        *("EFF_ATOMIC_NUM", "Z_EFF", "ZEFF", "ELECTRON_DENSITY", "RHO", "RHOZ", "PROTON_STOPPING_POWER", "SPR"),
        *("ADDITION", "SUBTRACTION", "DIVISION", "MULTIPLICATION", "STD_DEVIATION"),
        *("FAT_FRACTION", "STONE", "CBCT", "CONE_BEAM", "CONEBEAM", "OVERLAY", "COLOR_MAP"),
    )
)


def name_units(part: SeriesPart, headers: Sequence[DicomAttributes]) -> tuple[str, str]:
    """Name the units of a volume that is no PET.

    Args:
        part: its objects.
        headers: what its slices or frames say.

    Returns:
        The unit, empty where none is known; and why a CT is not in HU, or "".

    Raises:
        DicomError: slices state different units.
    """
    if part.first.modality != "CT":
        return "", ""
    stated = sorted({str(header.get("RescaleType") or "").strip().upper() for header in headers})
    if set(stated) <= {"", "HU", "US"}:
        # Slices in HU beside others that leave it open are no more than that.
        stated = stated[-1:]
    if len(stated) > 1:
        names = ", ".join(_describe_type(name) for name in stated)
        raise DicomError(f"slices state different units: {names}", where="(0028,1054)")
    if stated[0] not in ("", "HU"):
        if stated[0] in RESCALE_TYPES:
            return stated[0], ""
        return "", f"not in HU: RescaleType (0028,1054) is {_describe_type(stated[0])}"
    if part.first.sop_class not in CT_CLASSES:
        return "", "not in HU: SOPClassUID (0008,0016) is of no CT image"
    if not stated[0] and all(header.get("RescaleIntercept") is None for header in headers):
        return "", "not in HU: RescaleIntercept (0028,1052) is missing"
    image_types = {str(value).upper() for header in part.headers for value in header.image_type}
    image_types |= {str(value).upper() for header in headers for value in header.get("ImageType") or ()}
    # Vendors join words in one value: "PERFUSION CBF", "DE_IODINE".
    words = image_types | {word for value in image_types for word in re.split("[^A-Z0-9]+", value)}
    maps = sorted(words & NOT_HU_TYPES)
    if maps:
        return "", f"not in HU: ImageType (0008,0008) is {', '.join(maps)}"
    return "HU", ""


def check_rescales(headers: Sequence[DicomAttributes]) -> None:
    """Refuse slices that state a rescale beside others that state none: they would differ by all of it.

    Raises:
        DicomError: so it is.
    """
    for keyword, where in (("RescaleSlope", "(0028,1053)"), ("RescaleIntercept", "(0028,1052)")):
        missing = sum(header.get(keyword) in (None, "") for header in headers)
        if 0 < missing < len(headers):
            raise DicomError(f"{missing} of {len(headers)} slices state no {keyword}, the others do", where=where)


def _describe_type(rescale_type: str) -> str:
    """Free text stays behind (docs/conversion.md, Privacy)."""
    return rescale_type if rescale_type in (*RESCALE_TYPES, "US") else "another unit" if rescale_type else "not stated"
