"""Reads and writes the file of one prepared case: arrays that are mapped into memory, checked when they are first read.

Layout: MAGIC, length and checksum of the header, the header (JSON: plain values, and of each array its type, shape,
place and checksum; the file's size), then the arrays, each from a page's beginning on.

Why no NumPy or HDF5 file: a random crop of a mapped array reads only the pages that it touches, several arrays and
plain values stand in one file that is written whole or not at all, and no code is run when a file is read (as pickle
would).
"""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isal.isal_zlib import crc32

from voxflow.files import atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.components import Sample

MAGIC = b"VOXCASE1"
_PREFIX = struct.Struct("<8sQI")  # MAGIC, the header's length in bytes, its CRC-32
PAGE = 4096  # bytes; arrays begin at a multiple of it, the size of a memory page of most processors
CHUNK = 1 << 22  # bytes that are checked at a time


class CaseFileError(Exception):
    """A file that is no whole case: cut off, changed, or of another format."""


def write_case(path: Path, sample: Sample) -> None:
    """Write a sample, whole or not at all.

    Args:
        path: the file.
        sample: arrays, and plain values, also in tuples, lists and dicts.

    Raises:
        OSError: the disk is full, say.
        TypeError: a value can't be kept.
    """
    arrays: list[NDArray[Any]] = []
    values = _pack(sample, arrays)
    entries: list[dict[str, Any]] = [
        {"dtype": array.dtype.str, "shape": array.shape, "crc": crc32(array.data.cast("B")) if array.size else 0}
        for array in arrays
    ]
    # Offsets count from the end of the header, so that they don't change its length.
    end = 0
    for entry, array in zip(entries, arrays, strict=True):
        entry["offset"], end = end, _round_up_to_page(end + array.nbytes)
    header = json.dumps({"values": values, "arrays": entries, "bytes": end}).encode()
    data_start = _round_up_to_page(_PREFIX.size + len(header))
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(_PREFIX.pack(MAGIC, len(header), crc32(header)) + header)
        for entry, array in zip(entries, arrays, strict=True):
            stream.seek(data_start + entry["offset"])
            stream.write(array.data.cast("B") if array.size else b"")
        stream.truncate(data_start + end)


class CaseFile:
    """A case's file, its header read and checked; the arrays stay on disk.

    Raises:
        CaseFileError: it is not whole.
        OSError: it is missing or can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            prefix = stream.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
                raise CaseFileError("no file of a case")
            _, length, checksum = _PREFIX.unpack(prefix)
            header = stream.read(min(length, CHUNK * 16))
            if crc32(header) != checksum:
                raise CaseFileError("its header is damaged")
            size = stream.seek(0, 2)
        content = json.loads(header)
        self._values, self._entries = content["values"], content["arrays"]
        self._first = _round_up_to_page(_PREFIX.size + length)
        if size != self._first + content["bytes"]:
            raise CaseFileError(f"{size} bytes instead of {self._first + content['bytes']}")

    def read_value(self, name: str) -> Any:
        """Read one plain value of the sample from the header, without touching the arrays.

        Returns:
            The value; None when the sample has none of this name.
        """
        pairs = {key: value for key, value in self._values["dict"] if isinstance(key, str)}
        return pairs.get(name)

    def verify(self) -> None:
        """Read everything once and compare the checksums; memory holds a few megabytes at a time.

        Raises:
            CaseFileError: an array has changed.
        """
        with self.path.open("rb", buffering=0) as stream:
            for number, entry in enumerate(self._entries):
                bytes_left, checksum = _count_bytes(entry), 0
                stream.seek(self._first + entry["offset"])
                while bytes_left and (part := stream.read(min(bytes_left, CHUNK))):
                    checksum = crc32(part, checksum)
                    bytes_left -= len(part)
                if checksum != entry["crc"]:
                    raise CaseFileError(f"array {number} is damaged")

    def map_sample(self) -> Sample:
        """Map the arrays into memory and return the sample with them.

        What is never looked at is never read, and nothing stays in memory when the arrays are dropped. Writing into an
        array changes a private copy of its pages, never the file.

        Raises:
            OSError: the file was removed in between.
        """
        with self.path.open("rb") as stream:
            # A private mapping: whoever writes into an array writes into a copy, never into the file.
            pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        arrays = [_map_array(pages, self._first, entry) for entry in self._entries]
        return dict(_unpack(self._values, arrays))


def _map_array(pages: mmap.mmap, first: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    count = int(np.prod(shape))
    if not count:
        return np.zeros(shape, dtype)
    return np.frombuffer(pages, dtype, count, first + entry["offset"]).reshape(shape)


def _count_bytes(entry: dict[str, Any]) -> int:
    return int(np.prod(entry["shape"])) * int(np.dtype(entry["dtype"]).itemsize)


def _round_up_to_page(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


def _pack(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Turn a value into JSON; arrays are put aside and referred to by number."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"an array of {value.dtype} can't be kept in a file")
        # ascontiguousarray makes an array of no axes one of one axis; reshape takes that back.
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, arrays), _pack(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [_pack(item, arrays) for item in value]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a value of type {type(value).__name__} can't be kept in a file")


def _unpack(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "array":
            return arrays[content]
        case "dict":
            return {_unpack(key, arrays): _unpack(item, arrays) for key, item in content}
        case "path":
            return Path(content)
    items = [_unpack(item, arrays) for item in content]
    return tuple(items) if kind == "tuple" else items
