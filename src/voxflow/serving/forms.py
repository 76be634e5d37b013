"""Takes a form (multipart/form-data, RFC 7578) apart that a client has sent whole: one file for each channel."""

from __future__ import annotations

import mmap
import re
from email.message import Message
from typing import TYPE_CHECKING

from voxflow.serving.limits import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_BOUNDARY = 70  # RFC 2046 5.1.1
MOST_PARTS = 64
MOST_HEADER = 8192  # bytes, of one part
_BLOCK = 1 << 20
_NAME = re.compile(r'(?:^|;)\s*name="([^"]*)"', re.IGNORECASE)


def parse_form_boundary(content_type: str) -> bytes:
    """Read from a Content-Type what separates the parts of a form.

    Raises:
        RefusedError: 400, it states none that may be.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary() or ""
    if not 0 < len(boundary) <= LONGEST_BOUNDARY or not boundary.isascii():
        raise RefusedError(400, "the Content-Type of the form states no boundary; curl -F does")
    return boundary.encode()


def split_form(upload: Path, boundary: bytes, target: Path) -> list[tuple[str, Path]]:
    """Write each part of a form to a numbered file.

    Args:
        upload: the whole body.
        boundary: of :func:`parse_form_boundary`.
        target: an existing, empty folder.

    Returns:
        The name of each field, and its file, in order.

    Raises:
        RefusedError: 400, the body is no whole form, or has too many parts.
    """
    fields = []
    with upload.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as body:
        for number, (name, start, end) in enumerate(_find_parts(body, b"--" + boundary), start=1):
            if number > MOST_PARTS:
                raise RefusedError(400, f"the form has more than {MOST_PARTS} parts")
            path = target / f"{number:06d}"
            with path.open("wb") as out:
                for place in range(start, end, _BLOCK):
                    out.write(body[place : min(place + _BLOCK, end)])
            fields.append((name, path))
    return fields


def _find_parts(body: mmap.mmap, delimiter: bytes) -> Iterator[tuple[str, int, int]]:
    """Name of the field, and where its content begins and ends."""
    place = 0 if body[: len(delimiter)] == delimiter else body.find(b"\r\n" + delimiter) + 2
    if place == 1:
        raise RefusedError(400, "the body is not the form that its Content-Type states")
    while body[place + len(delimiter) : place + len(delimiter) + 2] != b"--":
        head = place + len(delimiter)
        begin = body.find(b"\r\n\r\n", head, head + MOST_HEADER)
        end = body.find(b"\r\n" + delimiter, begin + 2) if begin >= 0 else -1
        if end < 0:
            raise RefusedError(400, "the form ends early, or a part of it has no header")
        yield _read_field_name(body[head:begin]), begin + 4, max(begin + 4, end)
        place = end + 2


def _read_field_name(header: bytes) -> str:
    for line in header.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        match = _NAME.search(value) if key.strip().lower() == "content-disposition" else None
        if match:
            return match[1]
    raise RefusedError(400, 'a part of the form has no name; send each channel as curl -F "NAME=@FILE"')
