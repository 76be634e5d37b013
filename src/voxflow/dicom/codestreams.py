"""What a compressed frame says of itself, held against its object's header before a decoder sees it.

Decoders believe the frame: GDCM takes the memory for 65,535 x 65,535 pixels where a JPEG-LS frame claims them, whatever
Rows and Columns say, and aborts the process where there is none. So the headers of JPEG (ISO 10918-1), JPEG-LS (ISO
14495-1), JPEG 2000 and HTJ2K (ISO 15444-1 and -15) and RLE (PS3.5 Annex G) are read here. Only markers are looked at;
a frame that ends before its end marker is cut off, which some decoders pass over without a word.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from voxflow.errors import DicomError

PIXEL_DATA = "(7FE0,0010)"
RLE = "1.2.840.10008.1.2.5"
JPEG = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "57", "70"))
JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("80", "81"))
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("90", "91", "201", "202", "203"))

_SOI, _EOI, _SOS, _DNL, _LSE = 0xD8, 0xD9, 0xDA, 0xDC, 0xF8
# SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS; DHP and EXP begin hierarchical JPEG.
_SIZE_MARKERS = frozenset((*range(0xC0, 0xD0), 0xDE, 0xDF, 0xF7)) - {0xC4, 0xC8, 0xCC}
_JPEG_SIZES, _JPEG_LS_SIZES = frozenset((0xC0, 0xC1, 0xC2, 0xC3)), frozenset((0xF7,))
# The next marker behind entropy-coded data, in which 00 (in JPEG-LS a byte below 80) follows each FF.
_NEXT_MARKER = {False: re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]"), True: re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")}
# JPEG 2000: start and end, size, coding style, start of a tile part.
_SOC, _EOC, _SIZ, _COD, _SOT = 0xFF4F, 0xFFD9, 0xFF51, 0xFF52, 0xFF90
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
# A decoder keeps about 7 kB for each tile; smaller ones than these are made to hurt.
MIN_TILE_PIXELS, FREE_TILES = 1024, 64


@dataclass(frozen=True)
class PixelLayout:
    """What the header of an object says of each of its frames.

    Attributes:
        rows, columns: Rows (0028,0010) and Columns (0028,0011).
        samples: SamplesPerPixel (0028,0002).
        bits_allocated: BitsAllocated (0028,0100).
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int

    @property
    def frame_pixels(self) -> int:
        """Pixels of a frame."""
        return self.rows * self.columns

    @property
    def frame_bytes(self) -> int:
        """Bytes of a decoded frame."""
        return self.frame_pixels * self.samples * ((self.bits_allocated + 7) // 8)


def check_frame(frame: bytes, transfer_syntax: str, layout: PixelLayout) -> None:
    r"""Hold what a compressed frame claims against the header of its object.

    Args:
        frame: its bytes, of all its fragments.
        transfer_syntax: TransferSyntaxUID (0002,0010).
        layout: of the object.

    Raises:
        DicomError: the frame is cut off, or it claims another size than the header, or it is none of this syntax.

    Example:
        >>> check_frame(b"\xff\xd8\xff\xd9", "1.2.840.10008.1.2.4.50", PixelLayout(64, 64, 1, 8))
        Traceback (most recent call last):
        ...
        voxflow.errors.DicomError: (7FE0,0010): a frame of JPEG says nothing of its size
    """
    try:
        if transfer_syntax == RLE:
            _check_rle(frame, layout)
        elif transfer_syntax in JPEG:
            _check_jpeg(frame, layout, is_ls=False)
        elif transfer_syntax in JPEG_LS:
            _check_jpeg(frame, layout, is_ls=True)
        elif transfer_syntax in JPEG_2000:
            _check_jpeg_2000(frame, layout)
        else:
            raise DicomError("a compression that is not read", where="(0002,0010)")
    except (struct.error, IndexError) as error:
        raise DicomError("a compressed frame is cut off", where=PIXEL_DATA) from error


def _check_size(name: str, claim: tuple[int, int, int, int], layout: PixelLayout) -> None:
    """Compare rows, columns, samples and bits of a frame with the header's."""
    rows, columns, samples, bits = claim
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples):
        raise DicomError(
            f"a frame of {name} claims {rows} rows, {columns} columns and {samples} sample(s) a pixel, "
            f"and the header {layout.rows}, {layout.columns} and {layout.samples}",
            where=PIXEL_DATA,
        )
    if not 1 <= bits <= layout.bits_allocated:
        raise DicomError(
            f"a frame of {name} claims {bits} bits a sample, and the header {layout.bits_allocated}", where=PIXEL_DATA
        )


def _check_jpeg(frame: bytes, layout: PixelLayout, *, is_ls: bool) -> None:
    name, sizes = ("JPEG-LS", _JPEG_LS_SIZES) if is_ls else ("JPEG", _JPEG_SIZES)
    if frame[:2] != b"\xff\xd8":
        raise DicomError(f"a frame does not begin as {name} does", where=PIXEL_DATA)
    position, is_sized = 2, False
    while True:
        position, marker = _read_marker(frame, position, name)
        if marker == _EOI:
            break
        length = struct.unpack_from(">H", frame, position)[0]
        if marker in _SIZE_MARKERS:
            if marker not in sizes or is_sized:
                kind = "a second size" if is_sized else f"the size of another kind (marker FF{marker:02X})"
                raise DicomError(f"a frame of {name} has {kind}", where=PIXEL_DATA)
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, position + 2)
            _check_size(name, (rows, columns, samples, bits), layout)
            is_sized = True
        # Each may state another size than the header of the frame: DNL the rows, LSE of kind 4 all.
        if marker == _DNL or (marker == _LSE and is_ls and frame[position + 2] == 4):
            raise DicomError(f"a frame of {name} states its size a second time", where=PIXEL_DATA)
        position += length
        if marker == _SOS:
            found = _NEXT_MARKER[is_ls].search(frame, position)
            position = found.start() if found else len(frame)
    if not is_sized:
        raise DicomError(f"a frame of {name} says nothing of its size", where=PIXEL_DATA)


def _read_marker(frame: bytes, position: int, name: str) -> tuple[int, int]:
    """The marker at a position, and where its segment begins."""
    if position + 2 > len(frame):
        raise DicomError(f"a frame of {name} is cut off: it has no end marker", where=PIXEL_DATA)
    if frame[position] != 0xFF:
        raise DicomError(f"a frame of {name} is damaged: no marker where one must be", where=PIXEL_DATA)
    # Any number of FF may stand before a marker (ISO 10918-1, B.1.1.2).
    while frame[position + 1] == 0xFF:
        position += 1
    return position + 2, frame[position + 1]


def _check_jpeg_2000(frame: bytes, layout: PixelLayout) -> None:
    start = 0
    if frame.startswith(_JP2_SIGNATURE):
        # A file of JPEG 2000 around the codestream: against PS3.5 A.4.4, and written all the same.
        start = frame.find(b"jp2c\xff\x4f") + 4
        if start < 4:
            raise DicomError("a frame of JPEG 2000 has no codestream", where=PIXEL_DATA)
        header = frame.find(b"ihdr", 0, start)
        rows, columns, samples, bits = struct.unpack_from(">IIHB", frame, header + 4)
        _check_size("JPEG 2000", (rows, columns, samples, (bits & 0x7F) + 1), layout)
    if struct.unpack_from(">HH", frame, start) != (_SOC, _SIZ):
        raise DicomError("a frame does not begin as JPEG 2000 does", where=PIXEL_DATA)
    _check_siz(frame, start + 4, layout)
    position = start + 2
    while (marker := struct.unpack_from(">H", frame, position)[0]) != _SOT:
        if marker == _SIZ and position != start + 2:
            raise DicomError("a frame of JPEG 2000 has a second size", where=PIXEL_DATA)
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    _check_tile_parts(frame, position)


def _check_siz(frame: bytes, position: int, layout: PixelLayout) -> None:
    """The marker segment SIZ (ISO 15444-1, A.5.1): the image and the tiles lie on one reference grid."""
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = struct.unpack_from(
        ">8IH", frame, position + 4
    )
    bits, step_x, step_y = struct.unpack_from(">3B", frame, position + 38)
    _check_size("JPEG 2000", (bottom - top, right - left, samples, (bits & 0x7F) + 1), layout)
    if (step_x, step_y) != (1, 1):
        raise DicomError("a frame of JPEG 2000 has fewer samples than pixels", where=PIXEL_DATA)
    # ISO 15444-1, B.3: the first tile holds the image's first sample.
    is_tiled = tile_width > 0 and tile_height > 0 and tile_left <= left < tile_left + tile_width
    if not (is_tiled and tile_top <= top < tile_top + tile_height):
        raise DicomError("a frame of JPEG 2000 has tiles that do not cover it", where=PIXEL_DATA)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > max(FREE_TILES, layout.rows * layout.columns // MIN_TILE_PIXELS):
        raise DicomError(
            f"a frame of JPEG 2000 claims {tiles} tiles; the least that is taken is {MIN_TILE_PIXELS} pixels a tile",
            where=PIXEL_DATA,
        )


def _check_tile_parts(frame: bytes, position: int) -> None:
    """Step from tile part to tile part (ISO 15444-1, A.4.2): their lengths end where the end marker is."""
    while (marker := struct.unpack_from(">H", frame, position)[0]) == _SOT:
        length = struct.unpack_from(">I", frame, position + 6)[0]
        # 0: up to the end marker.
        if length == 0:
            position = frame.rfind(b"\xff\xd9", position)
            if position < 0:
                raise DicomError("a frame of JPEG 2000 is cut off: it has no end marker", where=PIXEL_DATA)
        elif length < 14:
            raise DicomError("a frame of JPEG 2000 is damaged: a tile part without a length", where=PIXEL_DATA)
        else:
            position += length
    if marker != _EOC:
        raise DicomError(
            "a frame of JPEG 2000 is damaged: its tile parts end elsewhere than they say", where=PIXEL_DATA
        )


def _check_rle(frame: bytes, layout: PixelLayout) -> None:
    """The header of 64 bytes (PS3.5 G.5): the number of segments, and where each begins."""
    count, *offsets = struct.unpack_from("<16I", frame)
    expected = layout.samples * layout.bits_allocated // 8
    if count != expected:
        raise DicomError(
            f"a frame of RLE has {count} segments, and the header asks for {expected}, one for each byte of a pixel",
            where=PIXEL_DATA,
        )
    ends = [*offsets[1:count], len(frame)]
    if count and (offsets[0] != 64 or any(start >= end for start, end in zip(offsets[:count], ends, strict=True))):
        raise DicomError("a frame of RLE has segments that do not follow each other", where=PIXEL_DATA)
