"""What a DICOM file is by its first bytes, and how much may come out of it: the door that every file passes.

A file of part 10 (PS3.10 7.1) begins with 128 bytes of preamble and "DICM"; old exports begin with their first element.
A file that was cut off, or whose first block is lost, is still known by what is left of these.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from voxflow.bounds import read_limits
from voxflow.dicom.elements import TooShortError, UnusualFileError, is_vr, read_file_meta

if TYPE_CHECKING:
    from pathlib import Path

PREAMBLE, PREFIX = 128, b"DICM"
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# zlib makes up to 1032 bytes of one; an image that is larger than this comes in another transfer syntax.
MAX_INFLATED_BYTES = 512 << 20
# pydicom takes 25 microseconds and 600 bytes for each. The functional groups of 10,000 frames have 150,000.
MAX_ITEMS, ITEM_BYTES = 300_000, 8
# What stands beside the pixels; a sparse file may be of any size, and take a day to read.
FREE_MEGABYTES = 1024
DEFLATED, EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_BLOCK = 1 << 20

FileStart = Literal["prefix", "element", "number", "cut", ""]


class UnfitFileError(ValueError):
    """A file that is not read, with a reason that holds nothing of the patient's."""


def find_start(path: Path) -> FileStart:
    """Tell by its first bytes whether a file is a DICOM object.

    Returns:
        "prefix" with DICOM's magic word; "element" where it begins with a data element, as old exports do, and "number"
        where this may be a number as well; "cut" where nothing but a preamble is left, or its prefix is lost; empty
        where it begins as no DICOM object does.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(PREAMBLE + len(PREFIX))
    except OSError:
        return ""
    # Some files lack the preamble alone.
    if PREFIX in (start[PREAMBLE:], start[: len(PREFIX)]):
        return "prefix"
    element = _find_element(start, has_dicom_name(path))
    if element:
        return element
    is_zero = not start[:PREAMBLE].strip(b"\0") and (PREFIX.startswith(start[PREAMBLE:]) or not any(start))
    return "cut" if start and is_zero and has_dicom_name(path) else ""


def find_name_kind(path: Path) -> str:
    """Tell how a file is called: by its suffix, or by a number or a UID, of which the last part is no suffix.

    Example:
        >>> from pathlib import Path
        >>> [find_name_kind(Path(name)) for name in ("IM7", "IM7.DCM", "1.2.840.7", "notes.txt")]
        ['', '.dcm', '.1', '.txt']
    """
    suffix = path.suffix.lower()
    return ".1" if suffix[1:].isdigit() else suffix


def has_dicom_name(path: Path) -> bool:
    """Whether a file is called as DICOM files are: without a suffix, by a UID, or with a suffix of theirs."""
    return find_name_kind(path) in ("", ".1", *DICOM_SUFFIXES)


def open_dataset(path: Path) -> Path | BytesIO:
    """Give what pydicom may read of a file: the file itself, or its content in a form that pydicom can't be hurt by.

    Raises:
        UnfitFileError: it is too large, its data set inflates to too much or is cut off, or it has too many items.
        OSError: the file can't be read.
    """
    size = path.stat().st_size
    megabytes = size >> 20
    if megabytes > FREE_MEGABYTES and megabytes > (most := read_limits().image_mb + FREE_MEGABYTES):
        raise UnfitFileError(f"it has {megabytes} MB, an image and its header have at most {most} (limits.image_mb)")
    _check_items(path, size)
    with path.open("rb") as stream:
        start = stream.read(_BLOCK)
        # The prefix without its preamble, which says nothing (PS3.10 7.1).
        padding = bytes(PREAMBLE) if start.startswith(PREFIX) else b""
        start = padding + start
        meta_length = _find_deflated(start)
        if not padding and not meta_length:
            # Small files are read once.
            return BytesIO(start) if len(start) == size < _BLOCK else path
        data = start + stream.read()
    return BytesIO(_inflate(data, meta_length) if meta_length else data)


def count_inflated_bytes(path: Path, most: int) -> int:
    """Count what comes out of a deflated file, without keeping it; a little more than ``most`` where it is more.

    Returns:
        0 for files that are not deflated, or that :func:`open_dataset` refuses.
    """
    with path.open("rb") as stream:
        try:
            meta_length = _find_deflated(stream.read(_BLOCK))
        except UnfitFileError:
            return 0
        if not meta_length:
            return 0
        stream.seek(meta_length)
        inflater, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        try:
            while count <= most and (compressed := inflater.unconsumed_tail or stream.read(_BLOCK)):
                count += len(inflater.decompress(compressed, _BLOCK))
        except zlib.error:  # reading it refuses it, too
            return count
    return count


def _find_deflated(start: bytes) -> int:
    """Where a deflated data set begins (PS3.5 A.5); 0 where it is none."""
    if start[PREAMBLE : PREAMBLE + len(PREFIX)] != PREFIX:
        return 0
    try:
        syntax, meta_length = read_file_meta(start)
    except (UnusualFileError, TooShortError) as error:
        if DEFLATED in start or (isinstance(error, TooShortError) and len(start) >= _BLOCK):
            raise UnfitFileError("its file meta information is damaged") from error
        return 0
    return meta_length if syntax.encode() == DEFLATED else 0


def _inflate(data: bytes, meta_length: int) -> bytes:
    """Inflate a data set up to a limit; then the file is as in explicit VR."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data[meta_length:], MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise UnfitFileError(f"its deflated data set has more than {MAX_INFLATED_BYTES >> 20} MB")
    if not inflater.eof:
        raise UnfitFileError("its deflated data set is cut off")
    return data[:meta_length].replace(DEFLATED, EXPLICIT) + inflated


def _check_items(path: Path, size: int) -> None:
    """Count what may be items of sequences, before pydicom makes an object of each."""
    if size < ITEM_BYTES * MAX_ITEMS:
        return
    counts = dict.fromkeys(_ITEM_TAGS, 0)
    with path.open("rb") as stream:
        block = b""
        while more := stream.read(_BLOCK):
            block = block[-3:] + more
            for tag in _ITEM_TAGS:
                counts[tag] += block.count(tag)
    items = max(counts.values())
    if items > MAX_ITEMS:
        raise UnfitFileError(f"it has {items} items of sequences, at most {MAX_ITEMS} are taken")


def _find_element(start: bytes, has_name: bool) -> FileStart:
    """Whether a file begins with an element of group 2 or 8, of either byte order."""
    if start[:2] in (b"\x02\x00", b"\x08\x00"):
        is_plausible = is_vr(start[4:6]) or (has_name and start[3:4] == b"\0" and start[6:8] == b"\0\0")
        return "element" if is_plausible else "number"
    return "element" if start[:2] in (b"\x00\x02", b"\x00\x08") and is_vr(start[4:6]) else ""
