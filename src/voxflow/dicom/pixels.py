"""From stored pixels to real values: decoding, clearing unused bits, and each slice's own rescale."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.enhanced import read_frame_planes, read_frame_rescales
from voxflow.dicom.grid import fit_slice_grid
from voxflow.dicom.headers import read_concatenation, read_dataset
from voxflow.dicom.plain import read_plain_values
from voxflow.dicom.stack import SliceStack
from voxflow.errors import DicomError
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from voxflow.dicom.headers import DicomAttributes, DicomHeader, Plane
    from voxflow.geometry import Geometry

    GridFit = Callable[[Sequence[Plane]], tuple[Geometry, list[int]]]

# Up to so many pixels a size is believed; above, if a byte does not stand for more than so many of them.
MAX_UNCHECKED_PIXELS, MAX_PIXELS_PER_BYTE = 2**28, 1000
LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


def read_series(
    headers: Sequence[DicomHeader],
    *,
    tolerance_mm: float,
    min_slices: int,
    fit_grid: GridFit | None = None,
    frames: Sequence[int] = (),
    on_object: Callable[[DicomAttributes], None] | None = None,
) -> Volume:
    """Read a series of single-frame objects, or one multi-frame object or concatenation, as a volume.

    Args:
        headers: its objects.
        tolerance_mm: how far a slice may lie from its place on the grid.
        min_slices: fewer are no volume.
        fit_grid: gives the grid and the order of planes in place of :func:`fit_slice_grid`.
        frames: of a multi-frame object, those that make the volume, from 0; empty takes all.
        on_object: is shown what each object says of its pixels, in the order of slices.

    Returns:
        Values after RescaleSlope (0028,1053) and RescaleIntercept (0028,1052): int16 (or int32) where these are
        whole numbers in all slices, else float32.

    Raises:
        DicomError: the slices make no volume that can be trusted, or pixels can't be decoded.
    """
    fit_grid = fit_grid or partial(fit_slice_grid, tolerance_mm=tolerance_mm, min_slices=min_slices)
    if headers[0].is_multiframe:
        return _read_multiframe([header.path for header in headers], fit_grid, frames, on_object)
    geometry, order = fit_grid([header.plane for header in headers])
    stack = SliceStack(len(order))
    for index in order:
        stored, attributes = _read_slice(headers[index])
        stack.add(stored, read_rescale(attributes))
        if on_object:
            on_object(attributes)
    return Volume(stack.values.transpose(2, 1, 0), geometry)


def _read_slice(header: DicomHeader) -> tuple[NDArray[Any], DicomAttributes]:
    """The stored values (rows, columns) of one object, and what it says of them."""
    # What makes an SUV of PET stands in further attributes.
    if header.pixels is not None and header.modality != "PT":
        return read_plain_values(header), header.pixels.to_attributes(header.modality)
    dataset = read_dataset(header.path, pixels=True)
    return decode_stored_values(dataset), dataset


def decode_stored_values(dataset: Dataset) -> NDArray[Any]:
    """Decode the stored values of an object, with the unused high bits cleared.

    Args:
        dataset: with its pixels.

    Returns:
        (rows, columns) or (frames, rows, columns), before rescale.

    Raises:
        DicomError: colour pixels, or pixels that no decoder reads.
    """
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise DicomError(
            f"expected grey pixels, received {dataset.get('PhotometricInterpretation')}", where="(0028,0004)"
        )
    _check_claimed_size(dataset)
    try:
        array = _view_plain_values(dataset)
        if array is None:
            array = dataset.pixel_array
    except Exception as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        name = getattr(syntax, "name", "an unknown transfer syntax")
        raise DicomError(f"pixels can't be decoded ({name}): {_take_first_line(error)}", where="(7FE0,0010)") from error
    return _clear_unused_bits(array, dataset)


def _view_plain_values(dataset: Dataset) -> NDArray[Any] | None:
    """The pixels of one uncompressed frame of 16 bits as they lie in the file; None for all that is less plain."""
    if dataset.file_meta.get("TransferSyntaxUID") not in LITTLE_ENDIAN or dataset.get("BitsAllocated") != 16:
        return None
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    sign, data, bits = dataset.get("PixelRepresentation"), dataset.get("PixelData"), dataset.get("BitsStored")
    shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if int(dataset.get("NumberOfFrames") or 1) != 1 or sign not in (0, 1) or not bits or not 0 < bits <= 16:
        return None
    if not isinstance(data, bytes) or not data or len(data) != 2 * shape[0] * shape[1]:
        return None
    return np.frombuffer(data, dtype="<i2" if sign else "<u2").reshape(shape)


def _clear_unused_bits(array: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Old scanners keep overlays in the bits above BitsStored (0028,0101)."""
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    # PS3.5 8.1.1: bits that are not stored may hold anything.
    if not 1 < stored < allocated or array.dtype.kind not in "iu" or array.dtype.itemsize * 8 != allocated:
        return array
    # Up and down again: signed values keep their sign.
    shift = allocated - stored
    return np.asarray((array << shift) >> shift)


def read_rescale(dataset: DicomAttributes) -> tuple[float, float]:
    """Read the rescale of a single-frame object (PS3.3 C.11.1): real value = stored value × slope + intercept.

    Returns:
        RescaleSlope (0028,1053) and RescaleIntercept (0028,1052); 1 and 0 where there are none.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _read_multiframe(
    paths: Sequence[Path], fit_grid: GridFit, frames: Sequence[int], on_object: Callable[[DicomAttributes], None] | None
) -> Volume:
    dataset = read_concatenation(paths)
    planes, rescales = read_frame_planes(dataset), read_frame_rescales(dataset)
    frames = frames or range(len(planes))
    geometry, order = fit_grid([planes[frame] for frame in frames])
    stored = decode_stored_values(dataset)
    if on_object:
        on_object(dataset)
    stack = SliceStack(len(order))
    for index in order:
        stack.add(stored[frames[index]], rescales[frames[index]])
    return Volume(stack.values.transpose(2, 1, 0), geometry)


def _check_claimed_size(dataset: Dataset) -> None:
    """A size that lies would have a decoder take all memory."""
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    byte_count = len(dataset.get("PixelData") or b"")
    if pixels > MAX_UNCHECKED_PIXELS and pixels > MAX_PIXELS_PER_BYTE * byte_count:
        raise DicomError(f"{pixels} pixels are claimed and {byte_count} bytes are there", where="(0028,0010)")


def _take_first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
