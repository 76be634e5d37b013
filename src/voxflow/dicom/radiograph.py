"""Owns radiographs: one DICOM CR or DX object to a grey picture where dense is bright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import read_dataset
from voxflow.dicom.pixels import stored_values
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_radiograph_object(path: Path) -> tuple[NDArray[np.uint16], tuple[float, ...]]:
    """Read a radiograph.

    Returns:
        (rows, columns) uint16 in the range of the stored bits, MONOCHROME2: MONOCHROME1 is inverted, signed
        values are shifted to begin at 0. And the spacing in mm along (rows, columns), of PixelSpacing or else
        ImagerPixelSpacing; empty where neither is given.

    Raises:
        DicomError: several frames, colour, or pixels that can't be decoded.
    """
    dataset = read_dataset(path, pixels=True)
    stored = stored_values(dataset)
    if stored.ndim != 2:
        raise DicomError(f"a radiograph has one frame, received {stored.shape[0]}", where="(0028,0008)")
    bits = int(dataset.BitsStored)
    values = stored.astype(np.int64)
    if int(dataset.PixelRepresentation) == 1:
        values = values + 2 ** (bits - 1)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        values = 2**bits - 1 - values
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()
    return np.clip(values, 0, 2**16 - 1).astype(np.uint16), tuple(float(value) for value in spacing)
