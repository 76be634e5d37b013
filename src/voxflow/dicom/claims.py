"""What headers claim, held against the limits and the bytes that are there, before memory is taken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from voxflow.bounds import check_array, check_grid, check_picture, check_resampling
from voxflow.errors import DataError, DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.headers import DicomHeader

_BITS = {"PixelData": 0, "FloatPixelData": 32, "DoubleFloatPixelData": 64}


def check_object(dataset: Dataset) -> int:
    """Check the size that an object claims for its pixels.

    Args:
        dataset: with its pixels.

    Returns:
        NumberOfFrames (0028,0008).

    Raises:
        DicomError: there are none, the size makes no sense, or is beyond the limits, or not that of the bytes there.
    """
    name = next((name for name in _BITS if name in dataset), None)
    if name is None:
        raise DicomError("no pixels are there", where="(7FE0,0010)")
    rows, columns, frames = int(dataset.Rows or 0), int(dataset.Columns or 0), int(dataset.get("NumberOfFrames") or 1)
    bits = _BITS[name] or int(dataset.BitsAllocated or 0)
    if min(rows, columns, frames) < 1 or not (bits == 1 or (bits % 8 == 0 and 8 <= bits <= 64)):
        raise DicomError(
            f"{rows} rows, {columns} columns, {frames} frames of {bits} bits can't be", where="(0028,0010)"
        )
    data = dataset[name].value or b""
    is_compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    # Frames count as channels: a segmentation has one for each segment of each slice.
    _check_shape((columns, rows, 1, frames), max(1, bits // 8), len(data) if is_compressed else None)
    if not is_compressed:
        _check_length(dataset, name, math.ceil(rows * columns * frames * bits / 8))
    return frames


def check_series(headers: Sequence[DicomHeader], frame_count: int = 0) -> None:
    """Check the size of the volume that the objects of a series would make, by their headers alone.

    Args:
        headers: of its objects.
        frame_count: how many of the frames of a multi-frame object make the volume; 0 for all.

    Raises:
        DicomError: it is beyond the limits.
    """
    is_plain = all(header.pixels for header in headers)
    file_bytes = None if is_plain else sum(header.path.stat().st_size for header in headers)
    frames = frame_count or sum(header.frame_count for header in headers)
    rows = max(header.plane.rows for header in headers)
    columns = max(header.plane.columns for header in headers)
    # 16 bits: what most volumes have in the end.
    _check_shape((columns, rows, frames), 2, file_bytes)


def refuse_beyond(parts: Sequence[SeriesPart], most_mb: int) -> list[SeriesPart]:
    """Leave out what no longer fits into a limit on all images of a folder together, by their headers alone.

    Args:
        parts: of the folder; those that are not decoded count nothing.
        most_mb: decoded pixels of all of them (MiB).

    Returns:
        The parts in their order; those beyond the limit are "unreadable", with the reason.
    """
    remaining, limited = most_mb << 20, []
    for part in parts:
        is_decoded = part.kind in ("volume", "radiograph", "label")
        # 16 bits a pixel, as in check_series; a segmentation may have a byte.
        byte_count = 2 * sum(h.plane.rows * h.plane.columns * max(1, h.frame_count) for h in part.headers) * is_decoded
        if byte_count > remaining:
            reason = f"all images together have more than {most_mb} MB decoded"
            limited.append(replace(part, kind="unreadable", reason=reason))
        else:
            remaining -= byte_count
            limited.append(part)
    return limited


def check_radiograph(dataset: Dataset) -> None:
    """Check that a radiograph has no more pixels than its PNG may have.

    Raises:
        DicomError: it is beyond the limits.
    """
    try:
        check_picture(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    except DataError as error:
        raise DicomError(error.message, where="(0028,0010)") from error


def check_geometry(size: Sequence[int], spacing_mm: Sequence[float], position_mm: Sequence[float]) -> None:
    """Refuse slices that lie where no scanner puts them.

    Args:
        size: pixels along each axis.
        spacing_mm: between them along each axis.
        position_mm: of one of them.

    Raises:
        DicomError: a length is absurd; names it and the limit.
    """
    try:
        check_grid(size, spacing_mm, position_mm)
    except DataError as error:
        raise DicomError(error.message, where="(0020,0032)") from error


def check_new_grid(size: Sequence[int], new_size: Sequence[int]) -> None:
    """Refuse a grid for moved slices that has far more voxels than these.

    Raises:
        DicomError: names both sizes and the limit.
    """
    try:
        check_resampling(size, new_size)
    except DataError as error:
        raise DicomError(error.message, where="(0020,0032)") from error


def _check_shape(shape: tuple[int, ...], voxel_bytes: int, file_bytes: int | None) -> None:
    try:
        check_array(shape, voxel_bytes, file_bytes=file_bytes)
    except DataError as error:
        raise DicomError(error.message, where="(0028,0010)") from error


def _check_length(dataset: Dataset, name: str, expected: int) -> None:
    """Hold the bytes of uncompressed pixels against the claim; zeros behind them are padding."""
    data = dataset[name].value or b""
    if len(data) < expected:
        message = f"pixels can't be decoded: {expected} bytes of them are claimed and {len(data)} are there"
        raise DicomError(message, where="(7FE0,0010)")
    # One byte makes an odd length even (PS3.5 8.1.1), whatever it is.
    if data[expected + 1 :].strip(b"\0"):
        raise DicomError(
            f"{expected} bytes of pixels are claimed and {len(data)} are there: the size is wrong", where="(7FE0,0010)"
        )
    if len(data) > expected + 1:
        setattr(dataset, name, data[: expected + expected % 2])
