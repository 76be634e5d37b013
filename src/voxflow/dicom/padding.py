"""Padding: pixels outside of the scanned field, which hold a number that is no measurement (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.pet_times import read_number
from voxflow.dicom.pixels import read_rescale
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import DicomAttributes


PADDING_TAGS = (
    "Modality",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "PixelRepresentation",
    "BitsStored",
    "BitsAllocated",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "LossyImageCompression",
)


def replace_padding(array: NDArray[Any], headers: Sequence[DicomAttributes]) -> str:
    """Give padding pixels the lowest real value of the volume, in place.

    Padding is PixelPaddingValue (0028,0120), or from there to PixelPaddingRangeLimit (0028,0121), which may be lower. A
    padding of 0 stays as it is in MR and PET, where 0 is no signal as well.

    Args:
        array: real values (i, j, slices).
        headers: of each slice, or of each frame, in their order.

    Returns:
        What the user should know of padding that stays, or "".

    Raises:
        DicomError: the volume is padding and nothing else.
    """
    # Lossy pixels hold the padding value here and there alone, and beside it what would pass for the lowest value.
    if any(is_lossy(header) and _scale_padding_range(header, array.dtype) for header in headers):
        return "padding stays, since lossy pixels do not hold its value exactly"
    bounds = [_scale_padding_range(header, array.dtype) for header in headers]
    if all(bound is None for bound in bounds):
        return ""
    lowest, masks = None, []
    for k, bound in enumerate(bounds):
        mask = None if bound is None else (array[:, :, k] >= bound[0]) & (array[:, :, k] <= bound[1])
        masks.append(mask)
        measured = array[:, :, k] if mask is None else array[:, :, k][~mask]
        if measured.size:
            lowest = measured.min() if lowest is None else min(lowest, measured.min())
    if lowest is None:
        raise DicomError("all pixels are padding", where="(0028,0120)")
    for k, mask in enumerate(masks):
        if mask is not None:
            array[:, :, k][mask] = lowest
    return ""


def is_lossy(header: DicomAttributes) -> bool:
    """Whether the pixels were compressed with a loss at any time, by LossyImageCompression (0028,2110)."""
    return str(header.get("LossyImageCompression") or "") == "01"


def find_padding_range(header: DicomAttributes) -> tuple[float, float] | None:
    """Find between which stored values all is padding.

    Returns:
        The padding value and the other end of its range, which may be lower; None where there is no padding.
    """
    for kind, read in (("Float", read_number), ("DoubleFloat", read_number), ("", _read_stored_value)):
        value = read(header, f"{kind}PixelPaddingValue")
        if value is not None:
            limit = read(header, f"{kind}PixelPaddingRangeLimit")
            return value, value if limit is None else limit
    return None


def _scale_padding_range(header: DicomAttributes, dtype: np.dtype[Any]) -> tuple[Any, Any] | None:
    """The lowest and highest real value of padding in a slice."""
    stored = find_padding_range(header)
    if stored is None or (stored[0] == 0 and header.get("Modality") != "CT"):
        return None
    slope, intercept = read_rescale(header)
    # A negative slope turns the range around.
    low, high = sorted(end * slope + intercept for end in stored)
    # As the volume's values are: in float64 a bound would miss the very fractions that it is meant for.
    return (ceil(low), floor(high)) if dtype.kind == "i" else (np.float32(low), np.float32(high))


def _read_stored_value(header: DicomAttributes, keyword: str) -> int | None:
    """The number as the pixels hold it; None where no pixel can hold it.

    Signed numbers are at times written as unsigned ones, and the other way round.
    """
    number = read_number(header, keyword)
    if number is None:
        return None
    allocated = int(read_number(header, "BitsAllocated") or 16)
    stored = int(read_number(header, "BitsStored") or allocated)
    value = int(number) % 2**allocated
    if int(header.get("PixelRepresentation") or 0) == 1:
        # By the sign of the stored bits where the bits above them are not set.
        bits = stored if value < 2**stored else allocated
        value -= 2**bits if value >= 2 ** (bits - 1) else 0
        return value if -(2 ** (stored - 1)) <= value < 2 ** (stored - 1) else None
    return value if value < 2**stored else None
