"""Decoding RLE frames (PS3.5 Annex G) here: no foreign code reads them, and no more comes out than the header says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.codestreams import PIXEL_DATA
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.dicom.codestreams import PixelLayout

# Of a sample: there is no type of others.
_BITS = (8, 16, 32)


def decode_rle(frame: bytes, layout: PixelLayout, *, is_signed: bool) -> NDArray[Any]:
    r"""Decode a frame of one sample a pixel, once ``check_frame`` has taken its table of segments.

    Args:
        frame: its bytes.
        layout: of the object.
        is_signed: PixelRepresentation (0028,0103) is 1.

    Returns:
        (rows, columns), of as many bits as are allocated.

    Raises:
        DicomError: a segment holds fewer or more bytes than the frame has pixels.

    Example:
        >>> from voxflow.dicom.codestreams import PixelLayout
        >>> frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\xfe\x07" + b"\x02\x01\x02\x03"
        >>> decode_rle(frame, PixelLayout(2, 3, 1, 8), is_signed=False).tolist()
        [[7, 7, 7], [1, 2, 3]]
    """
    if layout.bits_allocated not in _BITS:
        raise DicomError(f"{layout.bits_allocated} bits a sample can't be decoded", where="(0028,0100)")
    count, *offsets = struct.unpack_from("<16I", frame)
    planes = np.empty((layout.frame_pixels, count), dtype=np.uint8)
    # The first segment holds the highest bytes (PS3.5 G.2).
    for n, (start, end) in enumerate(zip(offsets[:count], [*offsets[1:count], len(frame)], strict=True)):
        planes[:, count - 1 - n] = np.frombuffer(_decode_segment(frame[start:end], layout.frame_pixels), np.uint8)
    return planes.view(f"<{'i' if is_signed else 'u'}{count}").reshape(layout.rows, layout.columns)


def _decode_segment(segment: bytes, byte_count: int) -> bytearray:
    """Unpack the runs and the bytes between them (PS3.5 G.3.2)."""
    decoded = bytearray()
    position, end, extend = 0, len(segment), decoded.extend
    # The encoder's worst is one byte more for each 128; bytes that stand for nothing must not take for ever.
    if end > 2 * byte_count + 2:
        raise DicomError("a segment of RLE is larger than its pixels", where=PIXEL_DATA)
    while position < end and len(decoded) <= byte_count:
        length = segment[position] + 1
        position += 1
        if length < 129:
            extend(segment[position : position + length])
            position += length
        elif length > 129:
            extend(segment[position : position + 1] * (258 - length))
            position += 1
    if len(decoded) != byte_count:
        amount = "more" if len(decoded) > byte_count else "fewer"
        raise DicomError(f"a segment of RLE holds {amount} bytes than the frame has pixels", where=PIXEL_DATA)
    return decoded
