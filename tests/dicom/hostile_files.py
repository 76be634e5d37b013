"""DICOM files that break every rule: each is one slice of a series, written byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

PIXELS = b"\xe0\x7f\x10\x00"
ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, element) for element in (0xE000, 0xE00D, 0xE0DD))
UNDEFINED = 0xFFFFFFFF


def write_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _set(dataset: Dataset, **values: object) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def insert(element: bytes) -> Callable[[Dataset], bytes]:
    """Put an element of group 0029 or so before the pixels."""
    return lambda dataset: write_bytes(dataset).replace(PIXELS, element + PIXELS, 1)


def sequence(items: bytes, *, is_open: bool = True) -> bytes:
    """A private sequence; an open one is of undefined length."""
    head = struct.pack("<HH2sHI", 0x0029, 0x1010, b"SQ", 0, UNDEFINED if is_open else len(items))
    return head + items + (SEQUENCE_END + struct.pack("<I", 0) if is_open else b"")


def nest(depth: int) -> bytes:
    begin = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, UNDEFINED) + ITEM + struct.pack("<I", UNDEFINED)
    end = ITEM_END + bytes(4) + SEQUENCE_END + bytes(4)
    return begin * depth + end * depth


def lengthen(tag: tuple[int, int], length: int) -> Callable[[Dataset], bytes]:
    """Give a text of implicit VR a length that 16 bits do not hold."""

    def change(dataset: Dataset) -> bytes:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data = write_bytes(dataset)
        old = len(dataset[tag].value)
        old += old % 2
        at = data.index(struct.pack("<HHI", *tag, old), _end_of_meta(data))
        return data[: at + 4] + struct.pack("<I", length) + b"1" * length + data[at + 8 + old :]

    return change


def overwrite(tag: tuple[int, int], value: bytes, vr: bytes = b"") -> Callable[[Dataset], bytes]:
    """Give an element of explicit VR another value, of any length, or another VR."""

    def change(dataset: Dataset) -> bytes:
        data = write_bytes(dataset)
        at = data.index(struct.pack("<HH", *tag), 300)
        old_vr, length = struct.unpack_from("<2sH", data, at + 4)
        head = struct.pack("<2sH", vr or old_vr, len(value))
        return data[: at + 4] + head + value + data[at + 8 + length :]

    return change


def claim_length(tag: tuple[int, int], length: int) -> Callable[[Dataset], bytes]:
    """Have a long element claim another length than it has."""

    def change(dataset: Dataset) -> bytes:
        data = write_bytes(dataset)
        at = data.index(struct.pack("<HH", *tag), 300)
        return data[: at + 8] + struct.pack("<I", length) + data[at + 12 :]

    return change


def deflate(dataset: Dataset, *extra: bytes) -> bytes:
    """Deflate a data set, with further bytes before it."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = write_bytes(dataset)
    begin = _end_of_meta(data)
    content = zlib.decompress(data[begin:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return data[:begin] + b"".join(map(deflater.compress, [*extra, content])) + deflater.flush()


def deflate_much(dataset: Dataset) -> bytes:
    """An element of 600 MB of zeros before all others, in 3 MB."""
    return deflate(dataset, struct.pack("<HH2sHI", 0x0007, 0x1010, b"OB", 0, 600 << 20), *[bytes(1 << 20)] * 600)


def _end_of_meta(data: bytes) -> int:
    at = data.index(b"\x02\x00\x00\x00UL\x04\x00")
    return at + 12 + int(struct.unpack_from("<I", data, at + 8)[0])


def swap(dataset: Dataset) -> bytes:
    """Say big endian of a file that is little endian."""
    data = write_bytes(dataset)
    old = str(dataset.file_meta.TransferSyntaxUID).encode()
    return data.replace(old, str(ExplicitVRBigEndian).encode().ljust(len(old), b"\0"), 1)


# What is done to the first slice of a series, and a part of what a row then says of it.
FILES: dict[str, tuple[Callable[[Dataset], bytes], str]] = {
    "SeriesInstanceUID of 166 kB": (lengthen((0x20, 0x0E), 166_000), "has 166000 characters"),
    "StudyInstanceUID of 166 kB": (lengthen((0x20, 0x0D), 166_000), "has 166000 characters"),
    "SOPInstanceUID of 166 kB": (lengthen((0x08, 0x18), 166_000), "has 166000 characters"),
    "SOPClassUID of 166 kB": (lengthen((0x08, 0x16), 166_000), "has 166000 characters"),
    "FrameOfReferenceUID of 166 kB": (lengthen((0x20, 0x52), 166_000), "has 166000 characters"),
    "SeriesInstanceUID of 65 characters": (overwrite((0x20, 0x0E), b"1." * 32 + b"11"), "has 66 characters"),
    "UID with a line end": (overwrite((0x20, 0x0E), b"1.2\n3."), "printable"),
    "PatientID of 30 kB": (overwrite((0x10, 0x20), b"7" * 30_000), "has 30000 characters"),
    "Modality of 300 characters": (overwrite((0x08, 0x60), b"CT" * 150), "has 300 characters"),
    "SeriesNumber of 5,000 digits": (overwrite((0x20, 0x11), b"9" * 5000), "SeriesNumber"),
    "position of 1e300": (overwrite((0x20, 0x32), b"1e300\\-1e300\\1e300"), "1e+300"),
    "position of 1e400": (overwrite((0x20, 0x32), b"1e400\\0\\0 "), "no 3 numbers"),
    "position of NaN": (overwrite((0x20, 0x32), b"nan\\0\\0 "), "no 3 numbers"),
    "position of 2,000 numbers": (overwrite((0x20, 0x32), b"\\".join([b"1"] * 2000) + b" "), "no 3 numbers"),
    "position in words": (overwrite((0x20, 0x32), b"here\\there\\0"), "is no number"),
    "orientation of 1e200": (overwrite((0x20, 0x37), b"1e200\\0\\0\\0\\1e200\\0"), "orientation"),
    "orientation of infinity": (overwrite((0x20, 0x37), b"inf\\0\\0\\0\\1\\0 "), "orientation"),
    "spacing of 1e300": (overwrite((0x28, 0x30), b"1e300\\1e300 "), "1e+300"),
    "spacing of 1e-300": (overwrite((0x28, 0x30), b"1e-300\\1e-300"), "1e-300"),
    "spacing of zero": (overwrite((0x28, 0x30), b"0\\0 "), "not positive"),
    "negative spacing": (overwrite((0x28, 0x30), b"-1\\-1 "), "not positive"),
    "spacing with commas": (overwrite((0x28, 0x30), b"0,5\\0,5 "), "no number"),
    "slope of 1e300": (overwrite((0x28, 0x1053), b"1e300 "), "1e+300"),
    "slope in words": (overwrite((0x28, 0x1053), b"steep "), "RescaleSlope"),
    "100,000 frames in a slice": (
        lambda dataset: write_bytes(_set(dataset, NumberOfFrames=100_000)),
        "NumberOfFrames (0028,0008) is more than 1",
    ),
    "a slice that is a part of an image": (
        lambda dataset: write_bytes(_set(dataset, ConcatenationUID="1.2.7", InConcatenationNumber=1)),
        "it is a part of an image",
    ),
    "no modality in a slice": (
        lambda dataset: write_bytes(_set(dataset, Modality="")),
        "Modality (0008,0060) is missing",
    ),
    "no frame in a slice": (lambda dataset: write_bytes(_set(dataset, NumberOfFrames=-1)), "can't be"),
    "Rows of 3 bytes": (overwrite((0x28, 0x10), b"\x09\x00\x00"), "Rows"),
    "Rows of no byte": (overwrite((0x28, 0x10), b""), "Rows"),
    "Rows as text": (overwrite((0x28, 0x10), b"many", b"LO"), "Rows"),
    "Rows as a number of 8 bytes": (overwrite((0x28, 0x10), bytes(8), b"FD"), "Rows"),
    "BitsAllocated of 0": (overwrite((0x28, 0x100), b"\0\0"), "0 bits"),
    "BitsAllocated of 65,535": (overwrite((0x28, 0x100), b"\xff\xff"), "65535 bits"),
    "a VR that is none": (overwrite((0x28, 0x10), b"\x09\x00", b"\x00\x01"), ""),
    "pixels of 4 GB": (claim_length((0x7FE0, 0x10), 2**32 - 2), "cut off"),
    "pixels without an end": (claim_length((0x7FE0, 0x10), UNDEFINED), ""),
    "a private element of 4 GB": (insert(struct.pack("<HH2sHI", 0x29, 0x1010, b"OB", 0, 2**32 - 2)), ""),
    "a private element without an end": (insert(struct.pack("<HH2sHI", 0x29, 0x1010, b"UN", 0, UNDEFINED)), ""),
    "sequences 100,000 deep": (insert(nest(100_000)), "unreadable"),
    "sequences 600 deep": (insert(nest(600)), "unreadable"),
    "400,000 items": (insert(sequence((ITEM + bytes(4)) * 400_000)), "400000 items"),
    "400,000 items of known length": (insert(sequence((ITEM + bytes(4)) * 400_000, is_open=False)), "400000 items"),
    "an item without an end": (insert(sequence(ITEM + struct.pack("<I", UNDEFINED))[:-8]), ""),
    "an item of 4 GB": (insert(sequence(ITEM + struct.pack("<I", UNDEFINED - 1))), ""),
    "600 MB in 3 MB": (deflate_much, "more than 512 MB"),
    "a deflated data set that is cut off": (lambda dataset: deflate(dataset)[:-60], "cut off"),
    "a deflated data set that is none": (lambda dataset: deflate(dataset)[:-400] + b"\xff" * 400, ""),
    "big endian by name": (swap, ""),
    "pixels as text": (overwrite((0x7FE0, 0x10), b"pixels", b"LT"), ""),
}
