"""Compressed frames that lie: sound ones of every compression, and what is changed in them."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom.objects import Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

ROWS, COLUMNS = 64, 60


@cache
def make_picture() -> np.ndarray:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    noise = np.random.default_rng(0).normal(0, 20, (ROWS, COLUMNS))
    values = 500 * np.sin(rows / 9) + 300 * np.cos(columns / 7) + noise + 1000
    return np.asarray(values.clip(0, 4095), dtype=np.uint16)


@cache
def make_frame(syntax: UID) -> bytes:
    if syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray((make_picture() >> 4).astype(np.uint8)).save(stream, "JPEG", quality=95)
        return stream.getvalue()
    if syntax == JPEGLosslessSV1:
        return _encode_lossless_jpeg(make_picture())
    dataset = Series(make_picture()[None]).datasets()[0]
    dataset.compress(syntax, generate_instance_uid=False)
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def make_object(syntax: UID, *frames: bytes) -> Dataset:
    """A CT slice of compressed frames, by default a sound one."""
    dataset = Series(make_picture()[None]).datasets()[0]
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == JPEGBaseline8Bit:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = encapsulate(list(frames) or [make_frame(syntax)], has_bot=False)
    dataset["PixelData"].VR = "OB"
    return dataset


def _encode_lossless_jpeg(picture: np.ndarray) -> bytes:
    """Process 14 with the first predictor (ISO 10918-1, Annex H), each difference by a Huffman code of eight bits."""
    values = picture.astype(int)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << 15
    bits = []
    for difference in (values - predicted).ravel():
        size = int(abs(difference)).bit_length()
        bits.append(f"{size:05b}")
        if size:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = bytes(int(text[n : n + 8], 2) for n in range(0, len(text), 8)).replace(b"\xff", b"\xff\x00")
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    header = b"\xff\xc3" + struct.pack(">HBHHB3B", 11, 16, *picture.shape, 1, 1, 0x11, 0)
    table = b"\xff\xc4" + struct.pack(">H", 2 + len(table)) + table
    return b"\xff\xd8" + header + table + b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0) + data + b"\xff\xd9"


def patch(marker: bytes, offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """Write over what stands so many bytes behind the first such marker."""

    def change(frame: bytes) -> bytes:
        at = frame.index(marker) + offset
        return frame[:at] + value + frame[at + len(value) :]

    return change


def insert_before(marker: bytes, segment: bytes) -> Callable[[bytes], bytes]:
    return lambda frame: frame.replace(marker, segment + marker, 1)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda frame: frame[: int(len(frame) * share)]


def cut_hole(frame: bytes) -> bytes:
    middle = len(frame) // 2
    return frame[:middle] + frame[middle + 60 :]


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def longs(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


SOF55, SOF0, SOF3, SIZ, COD, SOT = b"\xff\xf7", b"\xff\xc0", b"\xff\xc3", b"\xff\x51", b"\xff\x52", b"\xff\x90"
BIG = shorts(65535, 65535)


def rle_header(*words: int) -> Callable[[bytes], bytes]:
    return lambda frame: struct.pack("<16I", *words, *[0] * (16 - len(words))) + frame[64:]


def rle_segments(first: bytes, second: bytes) -> Callable[[bytes], bytes]:
    return lambda _: struct.pack("<16I", 2, 64, 64 + len(first), *[0] * 13) + first + second


def lengthen_rle(frame: bytes) -> bytes:
    """A run of 128 more bytes at the end of the last segment."""
    return frame + b"\x81\x07"


def shrink_precincts(frame: bytes) -> bytes:
    """Each precinct of four samples, in 65,535 layers: packets without end."""
    at = frame.index(COD)
    length = struct.unpack_from(">H", frame, at + 2)[0]
    levels = frame[at + 9]
    body = bytes([1]) + frame[at + 5 : at + 6] + shorts(65535) + frame[at + 8 : at + 14] + bytes([0x11] * (levels + 1))
    return frame[:at] + COD + shorts(2 + len(body)) + body + frame[at + 2 + length :]


# Compression, what is changed, and what is said of it.
FRAMES: dict[str, tuple[UID, Callable[[bytes], bytes], str]] = {
    "JPEG-LS, 65,535 squared": (JPEGLSLossless, patch(SOF55, 5, BIG), "claims 65535 rows, 65535 columns"),
    "JPEG-LS, a row more": (JPEGLSLossless, patch(SOF55, 5, shorts(ROWS + 1)), "claims 65 rows"),
    "JPEG-LS, no row": (JPEGLSLossless, patch(SOF55, 5, shorts(0)), "claims 0 rows"),
    "JPEG-LS, three samples": (JPEGLSLossless, patch(SOF55, 9, b"\x03"), "3 sample"),
    "JPEG-LS, 17 bits": (JPEGLSLossless, patch(SOF55, 4, b"\x11"), "claims 17 bits"),
    "JPEG-LS, size by LSE": (
        JPEGLSLossless,
        insert_before(SOF55, b"\xff\xf8" + shorts(12) + b"\x04\x04" + longs(65535, 65535)),
        "its size a second time",
    ),
    "JPEG-LS, two sizes": (
        JPEGLSLossless,
        insert_before(b"\xff\xda", SOF55 + shorts(11) + b"\x10" + BIG + b"\x01\x01\x11\x00"),
        "a second size",
    ),
    "JPEG-LS as JPEG": (JPEGLSLossless, lambda _: make_frame(JPEGBaseline8Bit), "the size of another kind"),
    "JPEG-LS, cut": (JPEGLSLossless, cut(0.8), "no end marker"),
    "JPEG-LS, cut in its header": (JPEGLSLossless, lambda frame: frame[:9], "cut off"),
    "JPEG-LS, a hole": (JPEGLSLossless, cut_hole, "can't be decoded"),
    "JPEG, 65,535 squared": (JPEGBaseline8Bit, patch(SOF0, 5, BIG), "claims 65535 rows"),
    "JPEG, 12 bits of 8": (JPEGBaseline8Bit, patch(SOF0, 4, b"\x0c"), "claims 12 bits"),
    "JPEG, size by DNL": (
        JPEGBaseline8Bit,
        insert_before(b"\xff\xd9", b"\xff\xdc" + shorts(4, 65535)),
        "its size a second time",
    ),
    "JPEG, hierarchical": (
        JPEGBaseline8Bit,
        insert_before(SOF0, b"\xff\xde" + shorts(11) + b"\x08" + BIG + b"\x01\x01\x11\x00"),
        "the size of another kind",
    ),
    "JPEG, no size": (JPEGBaseline8Bit, lambda _: b"\xff\xd8\xff\xd9", "says nothing of its size"),
    "JPEG, no JPEG": (JPEGBaseline8Bit, lambda frame: b"GIF89a" + frame, "does not begin as JPEG does"),
    "JPEG, cut": (JPEGBaseline8Bit, cut(0.7), "no end marker"),
    "JPEG, a hole": (JPEGBaseline8Bit, cut_hole, "Corrupt JPEG data|can't be decoded"),
    "JPEG, a segment beyond the end": (JPEGBaseline8Bit, patch(b"\xff\xe0", 2, b"\xff\xff"), "no end marker"),
    "lossless JPEG, 65,535 squared": (JPEGLosslessSV1, patch(SOF3, 5, BIG), "claims 65535 rows"),
    "lossless JPEG, cut": (JPEGLosslessSV1, cut(0.7), "no end marker"),
    "lossless JPEG, a hole": (JPEGLosslessSV1, cut_hole, "Corrupt JPEG data|can't be decoded"),
    "JPEG 2000, 65,535 squared": (JPEG2000Lossless, patch(SIZ, 6, longs(65535, 65535)), "claims 65535 rows"),
    "JPEG 2000, 4 billion squared": (JPEG2000Lossless, patch(SIZ, 6, longs(2**32 - 1, 2**32 - 1)), "4294967295 rows"),
    "JPEG 2000, negative": (JPEG2000Lossless, patch(SIZ, 14, longs(2**31, 2**31)), "claims -"),
    "JPEG 2000, 16,384 samples": (JPEG2000Lossless, patch(SIZ, 38, shorts(16384)), "16384 sample"),
    "JPEG 2000, 38 bits": (JPEG2000Lossless, patch(SIZ, 40, b"\x25"), "claims 38 bits"),
    "JPEG 2000, tiles of one pixel": (JPEG2000Lossless, patch(SIZ, 22, longs(1, 1)), "claims 3840 tiles"),
    "JPEG 2000, tiles of none": (JPEG2000Lossless, patch(SIZ, 22, longs(0, 0)), "do not cover"),
    "JPEG 2000, tiles elsewhere": (JPEG2000Lossless, patch(SIZ, 30, longs(100, 100)), "do not cover"),
    "JPEG 2000, sampled": (JPEG2000Lossless, patch(SIZ, 41, b"\xff\xff"), "fewer samples than pixels"),
    "JPEG 2000, two sizes": (
        JPEG2000Lossless,
        insert_before(
            COD, SIZ + shorts(41, 0) + longs(60000, 60000, 0, 0, 60000, 60000, 0, 0) + b"\x00\x01\x0f\x01\x01"
        ),
        "a second size",
    ),
    "JPEG 2000, packets without end": (JPEG2000Lossless, shrink_precincts, "can't be decoded|is damaged"),
    "JPEG 2000, cut": (JPEG2000Lossless, cut(0.7), "cut off"),
    "JPEG 2000, a hole": (JPEG2000Lossless, cut_hole, "cut off|end elsewhere"),
    "JPEG 2000, a tile part of 3 bytes": (JPEG2000Lossless, patch(SOT, 6, longs(3)), "without a length"),
    "JPEG 2000, a tile part beyond the end": (JPEG2000Lossless, patch(SOT, 6, longs(2**31)), "cut off"),
    "JPEG 2000, no JPEG 2000": (JPEG2000Lossless, lambda _: b"\x89PNG" + bytes(60), "does not begin"),
    "RLE, 15 segments": (RLELossless, rle_header(15, 64), "has 15 segments"),
    "RLE, no segment": (RLELossless, rle_header(0), "has 0 segments"),
    "RLE, 4 billion segments": (RLELossless, rle_header(2**32 - 1), "has 4294967295 segments"),
    "RLE, segments in a circle": (RLELossless, rle_header(2, 64, 64), "do not follow each other"),
    "RLE, a segment beyond the end": (RLELossless, rle_header(2, 64, 2**31), "do not follow each other"),
    "RLE, a segment in the header": (RLELossless, rle_header(2, 0, 100), "do not follow each other"),
    "RLE, cut": (RLELossless, cut(0.6), "holds fewer bytes"),
    "RLE, cut in its header": (RLELossless, lambda frame: frame[:20], "cut off"),
    "RLE, too many bytes": (RLELossless, lengthen_rle, "holds more bytes"),
    "RLE, a hole": (RLELossless, cut_hole, "holds (more|fewer) bytes"),
    # Runs of 128 for three million pixels, where the header says 3840.
    "RLE, runs without end": (RLELossless, rle_segments(b"\x81\x00" * 3_000, b"\x81\x00" * 3_800), "holds more bytes"),
    "RLE, bytes that stand for nothing": (RLELossless, rle_segments(b"\x80" * 8_000_000, b"\x81\x00"), "larger than"),
    "RLE, a run without a value": (RLELossless, rle_segments(b"\x81", b"\x81"), "holds fewer bytes"),
}


def _raw(data: bytes) -> Dataset:
    return _set(make_object(RLELossless), PixelData=data)


def _double(offsets: tuple[int, ...]) -> Dataset:
    """Two frames, with a Basic Offset Table."""
    return _set(_raw(_item(struct.pack(f"<{len(offsets)}I", *offsets)) + 2 * _item(_even_frame())), NumberOfFrames=2)


def _extend(offsets: tuple[int, ...], lengths: tuple[int, ...]) -> Dataset:
    """Two frames, with an Extended Offset Table."""
    return _set(
        make_object(RLELossless, _even_frame(), _even_frame()),
        NumberOfFrames=2,
        ExtendedOffsetTable=struct.pack(f"<{len(offsets)}Q", *offsets),
        ExtendedOffsetTableLengths=struct.pack(f"<{len(lengths)}Q", *lengths),
    )


def _even_frame() -> bytes:
    frame = make_frame(RLELossless)
    return frame + bytes(len(frame) % 2)


def _item(data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data) if length is None else length) + data


def _set(dataset: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def make_encapsulations() -> dict[str, tuple[Dataset, str]]:
    """Objects whose fragments, tables or counts lie, and what is said of each."""
    frame = _even_frame()
    jpeg = make_frame(JPEG2000Lossless)
    return {
        "no fragment": (_raw(_item(b"")), "no compressed frame"),
        "nothing": (_raw(b""), "no compressed frame"),
        "a fragment of 4 GB": (_raw(_item(b"") + _item(frame, 2**32 - 1)), "cut off, or damaged"),
        "a fragment beyond the end": (_raw(_item(b"") + _item(frame, len(frame) + 2)), "cut off, or damaged"),
        "no item": (_raw(bytes(range(64))), "cut off, or damaged"),
        "a table of 3 bytes": (_raw(_item(b"\0\0\0") + _item(frame)), "Basic Offset Table is damaged"),
        "more frames than one": (make_object(RLELossless, frame, frame), "1 frame(s) are claimed and 2"),
        "more frames of JPEG than one": (make_object(JPEG2000Lossless, jpeg, jpeg), "1 frame(s) are claimed and 2"),
        "fewer frames than two": (_set(make_object(RLELossless), NumberOfFrames=2), "2 frame(s) are claimed and 1"),
        "a million frames": (
            _set(make_object(RLELossless), NumberOfFrames=100_000),
            "100000 frame(s) are claimed and 1",
        ),
        "offsets in a circle": (_double((0, 0)), "does not lead from frame to frame"),
        "offsets backwards": (_double((len(frame) + 8, 0)), "does not lead from frame to frame"),
        "offsets between fragments": (_double((0, 11)), "does not lead from frame to frame"),
        "an offset beyond the end": (_double((0, 2**32 - 1)), "does not lead from frame to frame"),
        "too many offsets": (_double((0, len(frame) + 8, 2**31)), "does not lead from frame to frame"),
        "a long extended table": (_extend((0, 1, 2), (1, 1, 1)), "Extended Offset Table is not of 2"),
        "an extended offset of 2**63": (_extend((0, 2**63), (len(frame), len(frame))), "does not lead"),
        "an extended length of 2**63": (_extend((0, len(frame) + 8), (len(frame), 2**63)), "other lengths"),
    }


def make_claims() -> dict[str, tuple[Dataset, str]]:
    """Objects whose header claims what is not there, or what nobody can hold."""
    big = make_object(JPEG2000Lossless, patch(SIZ, 6, longs(65535, 65535))(make_frame(JPEG2000Lossless)))
    native = Series(make_picture()[None]).datasets
    return {
        "4 billion pixels that frame and header agree on": (
            _set(big, Rows=65535, Columns=65535),
            "at most 600,000,000",
        ),
        "more frames than memory": (_set(make_object(RLELossless), NumberOfFrames=2_000_000), "at most 4,096"),
        "no rows": (_set(make_object(RLELossless), Rows=0), "can't be"),
        "negative frames": (_set(make_object(RLELossless), NumberOfFrames=-4), "can't be"),
        "12 bits allocated": (_set(make_object(RLELossless), BitsAllocated=12), "can't be"),
        "plain: more rows": (_set(native()[0], Rows=65535), "bytes of them are claimed"),
        "plain: fewer columns": (_set(native()[0], Columns=50), "the size is wrong"),
        "plain: more frames": (_set(native()[0], NumberOfFrames=100), "bytes of them are claimed"),
        "plain: a frame less than there is": (_set(native()[0], Rows=ROWS // 2), "the size is wrong"),
        "plain: 64 bits": (_set(native()[0], BitsAllocated=64), "bytes of them are claimed"),
        "plain as compressed": (_syntax(native()[0], RLELossless), "cut off, or damaged"),
        "compressed as plain": (_syntax(make_object(RLELossless), pydicom.uid.ExplicitVRLittleEndian), "claimed"),
        "an unknown syntax": (_syntax(make_object(RLELossless), UID("1.2.3.4")), "unknown|can't be decoded"),
    }


def _syntax(dataset: Dataset, syntax: UID) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset
