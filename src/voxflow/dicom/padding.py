"""Padding: pixels outside of the scanned field, which hold a number that is no measurement (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from voxflow.dicom.enhanced import read_frame_rescales
from voxflow.dicom.pixels import read_rescale

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.headers import DicomAttributes


PADDING_TAGS = (
    "Modality",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "LossyImageCompression",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def replace_padding(array: NDArray[Any], headers: Sequence[DicomAttributes]) -> None:
    """Give padding pixels the lowest real value of the volume, in place.

    Padding is PixelPaddingValue (0028,0120), or from there to PixelPaddingRangeLimit (0028,0121). A padding of 0
    stays as it is in MR and PET, where 0 is no signal as well.

    Args:
        array: real values (i, j, slices).
        headers: of each slice, in their order, or of one multi-frame object.
    """
    bounds = list(_find_padding_ranges(headers, array.shape[2]))
    if all(bound is None for bound in bounds):
        return
    lowest, masks = None, []
    for k, bound in enumerate(bounds):
        mask = None if bound is None else (array[:, :, k] >= bound[0]) & (array[:, :, k] <= bound[1])
        masks.append(mask)
        measured = array[:, :, k] if mask is None else array[:, :, k][~mask]
        if measured.size:
            lowest = measured.min() if lowest is None else min(lowest, measured.min())
    for k, mask in enumerate(masks):
        if mask is not None:
            array[:, :, k][mask] = array.dtype.type(0) if lowest is None else lowest


def _find_padding_ranges(headers: Sequence[DicomAttributes], slices: int) -> Iterator[tuple[Any, Any] | None]:
    """The lowest and highest real value of padding in each slice."""
    if len(headers) == slices:
        for header in headers:
            yield _find_padding_range(header, read_rescale(header))
        return
    # One object for all slices has frames, and only pydicom reads those.
    rescales = set(read_frame_rescales(cast("Dataset", headers[0])))
    # Frames that are scaled in different ways: which slice has which is not told here.
    bound = _find_padding_range(headers[0], rescales.pop()) if len(rescales) == 1 else None
    yield from (bound for _ in range(slices))


def _find_padding_range(header: DicomAttributes, rescale: tuple[float, float]) -> tuple[Any, Any] | None:
    value = _read_stored_value(header, "PixelPaddingValue")
    # Lossy pixels no longer hold the padding value exactly.
    is_lossy = header.get("LossyImageCompression") == "01"
    if value is None or is_lossy or (value == 0 and header.get("Modality") != "CT"):
        return None
    limit = _read_stored_value(header, "PixelPaddingRangeLimit")
    # A negative slope turns the range around.
    bounds = sorted(end * rescale[0] + rescale[1] for end in (value, value if limit is None else limit))
    # As a volume of fractions is: in float64 a bound would miss the very values that it is meant for.
    return np.float32(bounds[0]), np.float32(bounds[1])


def _read_stored_value(header: DicomAttributes, keyword: str) -> int | None:
    """The number as the pixels hold it; signed ones are at times written as unsigned."""
    try:
        value = int(header.get(keyword))
    except (TypeError, ValueError):
        return None
    if int(header.get("PixelRepresentation") or 0) == 1 and value >= 2**15:
        return value - 2**16
    return value % 2**16 if value < 0 and int(header.get("PixelRepresentation") or 0) == 0 else value
