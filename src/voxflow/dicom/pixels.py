"""From stored pixels to real values: decoding, clearing unused bits, and each slice's own rescale or look-up table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.claims import check_object, check_series
from voxflow.dicom.decoders import decode_frames
from voxflow.dicom.enhanced import FrameAttributes, read_frame_planes
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

# The other terms of PS3.3 C.7.6.3.1.2; what is none of them may be any text, and is not told.
COLOURS = (
    *("PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"),
    *("YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
# Single precision holds no more, with room for a slope.
MAX_FLOAT = 1e30
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
        on_object: is shown what each object, or frame, says of its pixels, in the order of slices.

    Returns:
        Values after RescaleSlope (0028,1053) and RescaleIntercept (0028,1052), or the ModalityLUTSequence (0028,3000):
        int16 (or int32) where these are whole numbers in all slices, else float32.

    Raises:
        DicomError: the slices make no volume that can be trusted, or pixels can't be decoded.
    """
    check_series(headers, len(frames))
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
    check_grey(dataset)
    stored = _apply_modality_lut(decode_stored_values(dataset), dataset)
    return stored, FrameAttributes(dataset, 0)


def check_grey(dataset: Dataset) -> None:
    """Refuse pixels that are colours, which are no measurement.

    Raises:
        DicomError: PhotometricInterpretation (0028,0004) is no shade of grey, or some values stand for colours.
    """
    kind = str(dataset.get("PhotometricInterpretation") or "")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        palette = ": its values are indices of a palette" if kind == "PALETTE COLOR" else ""
        name = kind if kind in COLOURS else "an unknown term" if kind else "none stated"
        raise DicomError(f"expected grey pixels, received {name}{palette}", where="(0028,0004)")
    # PS3.3 C.8.16.2.1.2: values above LargestMonochromePixelValue (0028,9099) are then indices of a palette.
    presentation = str(dataset.get("PixelPresentation") or "")
    if presentation in ("COLOR", "MIXED"):
        raise DicomError(f"expected grey pixels, received PixelPresentation {presentation}", where="(0008,9205)")


def _apply_modality_lut(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """PS3.3 C.11.1: a table in place of slope and intercept; the data set then states the table's units."""
    if not dataset.get("ModalityLUTSequence"):
        return stored
    if dataset.get("PixelPaddingValue") is not None:
        raise DicomError("a table maps padding to values that may be measured ones, too", where="(0028,3000)")
    from pydicom.pixels.processing import apply_modality_lut

    try:
        values = apply_modality_lut(stored, dataset)
    except Exception as error:
        message = f"the modality's table can't be applied: {_take_first_line(error)}"
        raise DicomError(message, where="(0028,3000)") from error
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.RescaleType = str(dataset.ModalityLUTSequence[0].get("ModalityLUTType") or "US")
    return np.asarray(values)


def decode_stored_values(dataset: Dataset) -> NDArray[Any]:
    """Decode the stored values of an object, with the unused high bits cleared.

    Args:
        dataset: with its pixels.

    Returns:
        (rows, columns) or (frames, rows, columns), before rescale.

    Raises:
        DicomError: colour pixels, pixels that no decoder reads, or floating point numbers that are none.
    """
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise DicomError(
            f"expected grey pixels, received {dataset.get('PhotometricInterpretation')}", where="(0028,0004)"
        )
    try:
        array = _decode(dataset, check_object(dataset))
    except DicomError:
        raise
    except Exception as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        name = getattr(syntax, "name", "an unknown transfer syntax")
        raise DicomError(f"pixels can't be decoded ({name}): {_take_first_line(error)}", where="(7FE0,0010)") from error
    return _clear_unused_bits(array, dataset)


def _decode(dataset: Dataset, frame_count: int) -> NDArray[Any]:
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return decode_frames(dataset, frame_count)
    array = _view_plain_values(dataset)
    if array is None:
        array = _decode_all_bits(dataset) if _is_shifted(dataset) else dataset.pixel_array
    return array


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
    """Old scanners keep overlays in the bits beside those of BitsStored (0028,0101)."""
    if array.dtype.kind == "f":
        if not (np.abs(array) < MAX_FLOAT).all():
            raise DicomError("some pixels are NaN, infinite or too large", where="(7FE0,0008)")
        return array
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    # PS3.5 8.1.1: bits that are not stored may hold anything.
    if not 1 < stored < allocated or array.dtype.kind not in "iu" or array.dtype.itemsize * 8 != allocated:
        return array
    top = int(dataset.HighBit) + 1 if _is_shifted(dataset) else stored
    # Up and down again: signed values keep their sign.
    return np.asarray((array << (allocated - top)) >> (allocated - stored))


def _is_shifted(dataset: Dataset) -> bool:
    """Whether the stored bits do not begin at the lowest one, which HighBit (0028,0102) tells (PS3.5 8.1.1)."""
    stored, allocated = int(dataset.get("BitsStored") or 0), int(dataset.get("BitsAllocated") or 0)
    # Decoders of compressed pixels give the sample as it is, wherever it was.
    is_compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    return 0 < stored <= int(dataset.get("HighBit") or 0) < allocated and not is_compressed


def _decode_all_bits(dataset: Dataset) -> NDArray[Any]:
    """Decode without pydicom's clearing of high bits, which does not look at HighBit (pydicom#2066)."""
    stored, high_bit = dataset.BitsStored, dataset.HighBit
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    try:
        return np.asarray(dataset.pixel_array)
    finally:
        dataset.BitsStored, dataset.HighBit = stored, high_bit


def read_rescale(dataset: DicomAttributes) -> tuple[float, float]:
    """Read the rescale of one slice (PS3.3 C.11.1): real value = stored value × slope + intercept.

    Returns:
        RescaleSlope (0028,1053) and RescaleIntercept (0028,1052); 1 and 0 where there are none.

    Raises:
        DicomError: they are no numbers.
    """
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    try:
        return 1.0 if slope in (None, "") else float(slope), 0.0 if intercept in (None, "") else float(intercept)
    except (TypeError, ValueError) as error:
        raise DicomError("RescaleSlope or RescaleIntercept is no number", where="(0028,1053)") from error


def _read_multiframe(
    paths: Sequence[Path], fit_grid: GridFit, frames: Sequence[int], on_object: Callable[[DicomAttributes], None] | None
) -> Volume:
    dataset = read_concatenation(paths, decode_stored_values)
    check_grey(dataset)
    planes = read_frame_planes(dataset)
    frames = frames or range(len(planes))
    geometry, order = fit_grid([planes[frame] for frame in frames])
    stored = _apply_modality_lut(decode_stored_values(dataset), dataset)
    stack, top_level = SliceStack(len(order)), dict[str, Any]()
    for index in order:
        attributes = FrameAttributes(dataset, frames[index], top_level)
        stack.add(stored[frames[index]], read_rescale(attributes))
        if on_object:
            on_object(attributes)
    return Volume(stack.values.transpose(2, 1, 0), geometry)


def _take_first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
