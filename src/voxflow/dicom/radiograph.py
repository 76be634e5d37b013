"""Radiographs: one DICOM CR or DX object becomes a grey picture in which dense is bright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import read_dataset
from voxflow.dicom.pixels import decode_stored_values
from voxflow.dicom.window import apply_window
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.dicom.window import Window


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
        (rows, columns), MONOCHROME2: MONOCHROME1 is inverted. uint16 in the range of the stored bits, where no window
        is asked for (signed values are shifted to begin at 0); else, and for 8 bits, in the type's whole range. And
        the spacing in mm along (rows, columns), of PixelSpacing or else ImagerPixelSpacing; empty where neither is
        given.

    Raises:
        DicomError: several frames, colour, pixels that can't be decoded, or no window where one is to be stated.
    """
    dataset = read_dataset(path, pixels=True)
    stored = decode_stored_values(dataset)
    if stored.ndim != 2:
        raise DicomError(f"a radiograph has one frame, received {stored.shape[0]}", where="(0028,0008)")
    # PS3.3 C.7.6.3.1.2: the lowest value is white.
    inverted = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    # PS3.3 10.7: ImagerPixelSpacing (0018,1164) is at the detector; PixelSpacing may be calibrated to the patient.
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()
    spacing_mm = tuple(float(value) for value in spacing)
    if window is not None:
        grey = apply_window(stored, dataset, window)
        return _quantize(1 - grey if inverted else grey, bits), spacing_mm
    values, highest = stored.astype(np.int64), 2 ** int(dataset.BitsStored) - 1
    if int(dataset.PixelRepresentation) == 1:
        values = values + 2 ** (int(dataset.BitsStored) - 1)
    values = highest - values if inverted else values
    if bits == 8:
        return _quantize(values / highest, bits), spacing_mm
    return np.clip(values, 0, 2**16 - 1).astype(np.uint16), spacing_mm


def _quantize(grey: NDArray[np.float64], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    scaled = np.rint(np.clip(grey, 0, 1) * (2**bits - 1))
    return np.asarray(scaled, dtype=np.uint8) if bits == 8 else np.asarray(scaled, dtype=np.uint16)
