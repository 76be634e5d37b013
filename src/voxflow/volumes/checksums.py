"""Checks the checksums of compressed MetaImage and NRRD files, at which ITK does not look.

Where the compressed voxels of a MetaImage are damaged, ITK returns what its memory held; of NRRD it leaves the last
bytes unread. Here the stream is inflated once more, in pieces that are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

BUFFER = 1 << 20
MOST_TEXT = 1 << 16  # bytes, longer than any header
ZLIB, GZIP = 15, 31  # what zlib calls its own format and gzip's (wbits)


def require_intact(path: Path) -> None:
    """Refuse a MetaImage or NRRD file whose voxels are in a file that is missing, or are compressed and damaged.

    Args:
        path: any file; other formats are left to their readers.

    Raises:
        DataError: it is not whole.
    """
    name = path.name.lower()
    if name.endswith((".mha", ".mhd")):
        _check_meta_image(path)
    elif name.endswith((".nrrd", ".nhdr")):
        _check_nrrd(path)


def _check_meta_image(path: Path) -> None:
    with path.open("rb") as stream:
        fields: dict[str, str] = {}
        while "ElementDataFile" not in fields and stream.tell() < MOST_TEXT and (line := stream.readline(MOST_TEXT)):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
        place = fields.get("ElementDataFile", "")
        is_compressed = fields.get("CompressedData", "").lower() in ("true", "1")
        if place.upper() == "LOCAL":
            if is_compressed:
                _inflate(stream, ZLIB)
            return
    # "LIST" and "name%03d.raw 1 9 1" name several files.
    if place and place != "LIST" and len(place.split("%")) == 1:
        _check_data_file(path.parent / place, ZLIB if is_compressed else 0)


def _check_nrrd(path: Path) -> None:
    with path.open("rb") as stream:
        fields: dict[str, str] = {}
        while stream.tell() < MOST_TEXT and (line := stream.readline(MOST_TEXT).strip()):
            key, _, value = line.decode("latin-1").partition(":")
            fields[key.strip().lower().replace(" ", "")] = value.strip()
        format_bits = GZIP if fields.get("encoding", "").lower() in ("gzip", "gz") else 0
        place = fields.get("datafile", "")
        if "byteskip" in fields or "lineskip" in fields:
            return
        if not place:
            if format_bits:
                _inflate(stream, format_bits)
            return
    if place != "LIST" and not place.startswith("LIST ") and "%" not in place:
        _check_data_file(path.parent / place, format_bits)


def _check_data_file(path: Path, format_bits: int) -> None:
    if not path.is_file():
        raise DataError(f"unreadable image: the file of its voxels is not there: {path.name}")
    if format_bits:
        with path.open("rb") as stream:
            _inflate(stream, format_bits)


def _inflate(stream: BinaryIO, format_bits: int) -> None:
    from isal import igzip_lib, isal_zlib

    inflater = isal_zlib.decompressobj(format_bits)
    try:
        while not inflater.eof and (chunk := stream.read(BUFFER)):
            inflater.decompress(chunk)
    except igzip_lib.IsalError as error:  # type: ignore[misc] # its stub says that it is an instance
        raise DataError(f"unreadable image: damaged, or it ends early: {error}") from error
    if not inflater.eof:
        raise DataError("unreadable image: damaged, or it ends early: its compressed voxels are cut off")
