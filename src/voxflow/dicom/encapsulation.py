"""Taking compressed pixel data apart into frames (PS3.5 A.4), by tables that are checked before they are believed."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from voxflow.dicom.codestreams import PIXEL_DATA, RLE
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_END_MARKER = b"\xff\xd9"


def split_frames(dataset: Dataset, frame_count: int) -> list[bytes]:
    """Take the compressed pixel data of an object apart into its frames.

    Args:
        dataset: with its PixelData (7FE0,0010).
        frame_count: NumberOfFrames (0028,0008).

    A frame of RLE is one fragment (PS3.5 A.4.2); of other compressions, it may be several.

    Raises:
        DicomError: there are fewer or more frames than that, or fragments and tables of offsets contradict each other.
    """
    data = dataset.PixelData
    offsets, fragments = _read_fragments(data)
    if not fragments:
        raise DicomError("no compressed frame is there", where=PIXEL_DATA)
    extended = dataset.get("ExtendedOffsetTable")
    if extended:
        offsets = _read_extended_offsets(dataset, fragments, frame_count)
    if offsets:
        frames = _join_by_offsets(data, fragments, offsets)
    elif len(fragments) == frame_count or dataset.file_meta.TransferSyntaxUID == RLE:
        frames = [data[start:end] for start, end in fragments]
    else:
        frames = _join_by_end_markers(data, fragments)
    if len(frames) != frame_count:
        raise DicomError(f"{frame_count} frame(s) are claimed and {len(frames)} are there", where=PIXEL_DATA)
    return frames


def _read_fragments(data: bytes) -> tuple[list[int], list[tuple[int, int]]]:
    """The Basic Offset Table, and where in the data each fragment begins and ends."""
    items = []
    position = 0
    while position + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, position)
        tag = (group << 16) + element
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM or position + 8 + length > len(data):
            raise DicomError("a compressed fragment is cut off, or damaged", where=PIXEL_DATA)
        items.append((position + 8, position + 8 + length))
        position += 8 + length
    if not items:
        return [], []
    start, end = items[0]
    if (end - start) % 4:
        raise DicomError("the Basic Offset Table is damaged", where=PIXEL_DATA)
    return [offset for (offset,) in struct.iter_unpack("<I", data[start:end])], items[1:]


def _read_extended_offsets(dataset: Dataset, fragments: Sequence[tuple[int, int]], frame_count: int) -> list[int]:
    """PS3.3 C.7.6.3.1.8: offsets and lengths of 64 bits, one fragment a frame."""
    table, lengths = bytes(dataset.ExtendedOffsetTable), bytes(dataset.get("ExtendedOffsetTableLengths") or b"")
    if len(table) != 8 * frame_count or len(lengths) != len(table) or len(fragments) != frame_count:
        raise DicomError(f"the Extended Offset Table is not of {frame_count} frame(s)", where="(7FE0,0001)")
    sizes = [length for (length,) in struct.iter_unpack("<Q", lengths)]
    if any(size > end - start or end - start - size > 1 for size, (start, end) in zip(sizes, fragments, strict=True)):
        raise DicomError("the Extended Offset Table has other lengths than the fragments", where="(7FE0,0002)")
    return [offset for (offset,) in struct.iter_unpack("<Q", table)]


def _join_by_offsets(data: bytes, fragments: Sequence[tuple[int, int]], offsets: Sequence[int]) -> list[bytes]:
    """Join the fragments from one offset to the next; offsets count from the first fragment's item."""
    first_item = fragments[0][0] - 8
    number_by_offset = {start - 8 - first_item: n for n, (start, _) in enumerate(fragments)}
    numbers = [number_by_offset.get(offset, -1) for offset in offsets]
    if numbers[0] != 0 or any(number >= following for number, following in pairwise(numbers)):
        raise DicomError("the table of offsets does not lead from frame to frame", where=PIXEL_DATA)
    ends = [*numbers[1:], len(fragments)]
    return [
        b"".join(data[start:end] for start, end in fragments[first:following])
        for first, following in zip(numbers, ends, strict=True)
    ]


def _join_by_end_markers(data: bytes, fragments: Sequence[tuple[int, int]]) -> list[bytes]:
    """Join the fragments up to each that ends in the end marker of JPEG, where no table tells."""
    frames: list[bytes] = []
    pieces: list[bytes] = []
    for start, end in fragments:
        pieces.append(data[start:end])
        # Behind the marker, padding may follow.
        if _END_MARKER in data[max(start, end - 10) : end]:
            frames.append(b"".join(pieces))
            pieces = []
    return [*frames, b"".join(pieces)] if pieces else frames
