"""Radiographs: one DICOM CR or DX object becomes a grey picture in which dense is bright."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.claims import check_radiograph
from voxflow.dicom.headers import read_dataset
from voxflow.dicom.padding import find_padding_range
from voxflow.dicom.pixels import check_grey, decode_stored_values
from voxflow.dicom.window import apply_window, is_decreasing_lut
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.window import Window

# PNG holds no more.
MAX_BITS = 16


def read_radiograph_object(
    path: Path, *, window: Window | None = None, bits: int = 16
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[float, ...]]:
    """Read a radiograph.

    Args:
        path: the DICOM file.
        window: what part of the values to spread over all of the grey, see
            :func:`voxflow.dicom.window.apply_window`; None keeps them.
        bits: of the picture, 8 or 16.

    Returns:
        (rows, columns), MONOCHROME2: MONOCHROME1 is inverted, padding is 0. uint16 in the range of the stored bits,
        where no window is asked for (signed values are shifted to begin at 0); else, and for 8 or more than 16 bits, in
        the type's whole range. And the spacing in mm along (rows, columns), of PixelSpacing or else ImagerPixelSpacing;
        empty where neither is given.

    Raises:
        DicomError: several frames, colour, pixels that can't be decoded, attributes that contradict each other on which
            end is bright, nothing but padding, or no window where one is to be stated.
    """
    dataset = read_dataset(path, pixels=True)
    check_grey(dataset)
    check_radiograph(dataset)
    stored = decode_stored_values(dataset)
    if stored.ndim != 2:
        raise DicomError(f"a radiograph has one frame, received {stored.shape[0]}", where="(0028,0008)")
    # PS3.3 10.7: ImagerPixelSpacing (0018,1164) is at the detector; PixelSpacing may be calibrated to the patient.
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()
    spacing_mm = tuple(float(value) for value in spacing)
    is_inverted, padding = _is_inverted(dataset), _find_padding(stored, dataset)
    if window is not None:
        grey = apply_window(stored, dataset, window)
        picture = _quantize(1 - grey if is_inverted else grey, bits)
    else:
        picture = _spread_stored_bits(stored, dataset, is_inverted != _is_turned_around(dataset), bits)
    # PS3.3 C.7.5.1.1.2: padding is no part of the picture, whichever end of its values it lies at.
    picture[padding] = 0
    return picture, spacing_mm


def _spread_stored_bits(
    stored: NDArray[Any], dataset: Dataset, is_inverted: bool, bits: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if stored.dtype.kind == "f":
        raise DicomError("floating point pixels have no range of grey; choose a window", where="(7FE0,0008)")
    values, highest = stored.astype(np.int64), 2 ** int(dataset.BitsStored) - 1
    if int(dataset.PixelRepresentation) == 1:
        values = values + 2 ** (int(dataset.BitsStored) - 1)
    values = highest - values if is_inverted else values
    if bits == 8 or dataset.BitsStored > MAX_BITS:
        return _quantize(values / highest, bits)
    return np.clip(values, 0, 2**MAX_BITS - 1).astype(np.uint16)


def _is_inverted(dataset: Dataset) -> bool:
    """Whether the lowest value is white, after the modality's transformation (PS3.3 C.7.6.3.1.2)."""
    is_inverted = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    # PS3.3 C.8.11.3.1.2: INVERSE goes with MONOCHROME1; alone it leaves open which end is white.
    if dataset.get("PresentationLUTShape") == "INVERSE" and not is_inverted:
        raise DicomError("INVERSE contradicts PhotometricInterpretation MONOCHROME2", where="(2050,0020)")
    return is_inverted


def _is_turned_around(dataset: Dataset) -> bool:
    """Whether a table or a rescale, which is not applied without a window, turns the order of the stored values."""
    turns = float(dataset.get("RescaleSlope") or 1) < 0
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if dataset.get(keyword):
            turns ^= is_decreasing_lut(dataset[keyword][0], dataset)
    return turns


def _find_padding(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_]:
    ends = find_padding_range(dataset)
    if ends is None:
        return np.zeros(stored.shape, dtype=bool)
    padding = (stored >= min(ends)) & (stored <= max(ends))
    if padding.all():
        raise DicomError("all pixels are padding", where="(0028,0120)")
    return np.asarray(padding)


def _quantize(grey: NDArray[np.float64], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    scaled = np.rint(np.clip(grey, 0, 1) * (2**bits - 1))
    return np.asarray(scaled, dtype=np.uint8) if bits == 8 else np.asarray(scaled, dtype=np.uint16)
