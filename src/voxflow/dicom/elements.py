"""Reading a few elements from the start of a DICOM file that keeps every rule; any other file is left to pydicom.

A file of part 10 (PS3.10 7.1) is 128 bytes of preamble, "DICM", the file meta information of group 0002, and then the
data set: elements in ascending order of their tags (PS3.5 7.1). Each has a tag, a value representation (VR, absent in
implicit transfer syntaxes), a length and a value. The walk goes from header to header without looking at values,
steps over sequences, and ends at the pixels. Whatever it does not expect raises :class:`UnusualFileError`.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IMPLICIT_VR, EXPLICIT_VR = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
# JPEG, JPEG-LS, JPEG 2000 and RLE: the elements before the pixels are as in EXPLICIT.
COMPRESSED = "1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5"

PIXELS = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
# How much of a file is read at first, and when that does not reach the pixels.
READ_LENGTHS = (1 << 14, 1 << 20)
# Enhanced objects nest four levels deep; what goes beyond this is made to hurt.
MAX_DEPTH = 16

_TAG_LENGTH = struct.Struct("<HHI")
_TAG_VR_LENGTH = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT_VRS = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip


class UnusualFileError(Exception):
    """The file holds something that this reader leaves to pydicom; never leaves this package."""


class TooShortError(Exception):
    """What was read of the file ends before the element does; never leaves this package."""


@dataclass(frozen=True)
class Elements:
    """The elements that were read from one file, and where its pixels lie.

    Attributes:
        transfer_syntax: TransferSyntaxUID (0002,0010).
        values: bytes of the elements asked for that are there, by tag.
        pixels: offset in the file and length of PixelData (7FE0,0010), bytes; None where there is none, or its length
            is undefined as that of compressed pixels is (PS3.5 A.4).
        size: of the file in bytes.
    """

    transfer_syntax: str
    values: dict[int, bytes]
    pixels: tuple[int, int] | None
    size: int


def read_elements(path: Path, vr_by_tag: Mapping[int, bytes]) -> Elements:
    """Read some top-level elements of a file in DICOM's file format (PS3.10).

    Args:
        path: the file; only its start is read.
        vr_by_tag: tags, (group << 16) + element, each with the VR that it must have; empty for any. Of a sequence
            (``b"SQ"``) only its presence is told, by empty bytes.

    Raises:
        UnusualFileError: this is for pydicom to read, or to refuse.
        OSError: the file can't be read.

    Example:
        >>> from pathlib import Path
        >>> from voxflow.synthetic import Person, new_dataset
        >>> ct_image = "1.2.840.10008.5.1.4.1.1.2"
        >>> dataset = new_dataset(Person(1, 0, "CT"), ct_image, modality="CT", series="a", instance=1)
        >>> dataset.BitsAllocated, dataset.PixelData = 16, bytes(8)
        >>> dataset.save_as("one.dcm", enforce_file_format=True)
        >>> elements = read_elements(Path("one.dcm"), {0x00080060: b"CS"})
        >>> elements.values[0x00080060], elements.size - sum(elements.pixels)
        (b'CT', 0)
    """
    status = path.stat()
    # A pipe or a device would keep whoever opens it waiting.
    if not stat.S_ISREG(status.st_mode):
        raise UnusualFileError
    with path.open("rb", buffering=0) as stream:
        data = b""
        for length in READ_LENGTHS:
            data += stream.read(length - len(data)) or b""
            try:
                return _walk_elements(data, status.st_size, vr_by_tag)
            except TooShortError:
                continue
    raise UnusualFileError


def _walk_elements(data: bytes, size: int, vr_by_tag: Mapping[int, bytes]) -> Elements:
    transfer_syntax, first_element = _find_data_set(data)
    is_explicit = transfer_syntax != IMPLICIT_VR
    walk = _parse_explicit if is_explicit else _parse_implicit
    values: dict[int, bytes] = {}
    position, previous_tag, pixels, parse_usual = first_element, 0, None, _TAG_VR_LENGTH.unpack_from
    while position < size:
        try:
            group, element, vr, length = parse_usual(data, position)
        except struct.error as error:
            raise TooShortError from error
        # Most elements are of this kind, and a call for each takes as long as all the rest.
        if is_explicit and vr in _SHORT_VRS:
            tag, value = (group << 16) + element, position + 8
        else:
            tag, vr, value, length = walk(data, position)
        # PS3.5 7.1: tags ascend, each stands once.
        if tag <= previous_tag:
            raise UnusualFileError
        previous_tag = tag
        if tag >= PIXELS:
            pixels = (value, length) if tag == PIXELS and length != UNDEFINED else None
            break
        position, expected = value + length, vr_by_tag.get(tag)
        if length == UNDEFINED:
            position = _skip_sequence(data, value, vr, is_explicit)
        if expected is None:
            continue
        if expected == b"SQ":
            values[tag] = b""
        elif length != UNDEFINED:
            if vr is not None and expected and vr != expected:
                raise UnusualFileError
            if position > len(data):
                raise TooShortError
            values[tag] = data[value:position]
    return Elements(transfer_syntax, values, pixels, size)


def _find_data_set(data: bytes) -> tuple[str, int]:
    """The transfer syntax of a file that can be walked through, and where its data set begins."""
    if data[128:132] != b"DICM":
        raise UnusualFileError
    transfer_syntax, first_element = read_file_meta(data)
    if transfer_syntax != IMPLICIT_VR and not transfer_syntax.startswith((*COMPRESSED, EXPLICIT_VR)):
        raise UnusualFileError
    if transfer_syntax.startswith(EXPLICIT_VR + "."):  # deflated
        raise UnusualFileError
    return transfer_syntax, first_element


def read_file_meta(data: bytes) -> tuple[str, int]:
    """Read the transfer syntax from the start of a file with preamble and prefix, and find where its data set begins.

    Raises:
        UnusualFileError: it is not as it should be.
        TooShortError: the file, or what was read of it, ends before it does.
    """
    position, transfer_syntax = 132, ""
    while data[position : position + 2] == b"\x02\x00":
        tag, _, value, length = _parse_explicit(data, position)
        position = value + length
        if position > len(data):
            raise TooShortError
        if tag == 0x00020010:
            transfer_syntax = data[value:position].rstrip(b"\0 ").decode("ascii", "replace")
    if not transfer_syntax:
        raise UnusualFileError
    return transfer_syntax, position


def is_vr(text: bytes) -> bool:
    """Whether two bytes are a value representation (PS3.5 6.2)."""
    return text in _SHORT_VRS or text in _LONG_VRS


def _parse_explicit(data: bytes, position: int) -> tuple[int, bytes | None, int, int]:
    """Tag, value representation, offset and length of the value of the element at a position."""
    try:
        group, element, vr, length = _TAG_VR_LENGTH.unpack_from(data, position)
        if vr in _SHORT_VRS:
            return (group << 16) + element, vr, position + 8, length
        # Tag, VR, two reserved bytes, length (PS3.5 7.1.2).
        if vr in _LONG_VRS:
            return (group << 16) + element, vr, position + 12, _LONG.unpack_from(data, position + 8)[0]
    except struct.error as error:
        raise TooShortError from error
    raise UnusualFileError


def _parse_implicit(data: bytes, position: int) -> tuple[int, bytes | None, int, int]:
    try:
        group, element, length = _TAG_LENGTH.unpack_from(data, position)
    except struct.error as error:
        raise TooShortError from error
    return (group << 16) + element, None, position + 8, length


def _skip_sequence(data: bytes, position: int, vr: bytes | None, explicit: bool, depth: int = 0) -> int:
    """Find where a sequence of undefined length ends (PS3.5 7.5), from the position where its first item begins."""
    if depth > MAX_DEPTH or vr not in (None, b"SQ"):
        raise UnusualFileError
    while True:
        tag, _, value, length = _parse_implicit(data, position)
        if tag == SEQUENCE_END:
            return value
        if tag != ITEM:
            raise UnusualFileError
        position = value + length if length != UNDEFINED else _skip_item(data, value, explicit, depth)


def _skip_item(data: bytes, position: int, explicit: bool, depth: int) -> int:
    while True:
        tag, _, value, length = _parse_implicit(data, position)
        if tag == ITEM_END:
            return value
        tag, vr, value, length = (_parse_explicit if explicit else _parse_implicit)(data, position)
        position = value + length if length != UNDEFINED else _skip_sequence(data, value, vr, explicit, depth + 1)
