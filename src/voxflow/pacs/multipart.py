"""Reading a multipart answer of one part (RFC 2387) into a file, without holding it in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_END_OF_HEADER = b"\r\n\r\n"
_LONGEST_HEADER = 65536


def parse_boundary(content_type: str) -> bytes | None:
    """Read from a Content-Type what separates the parts of an answer.

    Returns:
        None when the answer has no parts, so that all of it is the object.

    Example:
        >>> parse_boundary('multipart/related; type="application/dicom"; boundary=0f3c')
        b'0f3c'
        >>> parse_boundary("application/dicom") is None
        True
    """
    match = _BOUNDARY.search(content_type) if content_type.lower().startswith("multipart/") else None
    return match[1].strip().encode() if match else None


def read_single_part(blocks: Iterable[bytes], boundary: bytes | None, target: Path) -> bool:
    """Write the only part of an answer to a file.

    Args:
        blocks: the answer's body as it comes.
        boundary: of :func:`parse_boundary`.
        target: the file to write.

    Returns:
        Whether the part had its end; False: the answer was cut off, or is no multipart answer.
    """
    blocks = iter(blocks)
    head = b""
    if boundary is not None:
        while _END_OF_HEADER not in head:
            block = next(blocks, b"")
            head += block
            if not block or (len(head) > _LONGEST_HEADER and _END_OF_HEADER not in head):
                return False
        head = head.split(_END_OF_HEADER, 1)[1]
    with target.open("wb") as out:
        out.write(head)
        for block in blocks:
            out.write(block)
    return boundary is None or _cut_at_delimiter(target, b"\r\n--" + boundary)


def _cut_at_delimiter(target: Path, delimiter: bytes) -> bool:
    """Remove the delimiter and what follows from the end of the file; False when it is not there."""
    size = target.stat().st_size
    with target.open("r+b") as stream:
        # The delimiter is the last thing of the answer but for its closing and an epilogue.
        start = max(0, size - len(delimiter) - _LONGEST_HEADER)
        stream.seek(start)
        offset = stream.read().rfind(delimiter)
        if offset < 0:
            return False
        stream.truncate(start + offset)
    return True
