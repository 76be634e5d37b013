"""Uploads that nobody should send: each of them must be refused, and cost the service nothing that it keeps."""

from __future__ import annotations

import gzip
import io
import json
import socket
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from tests.dicom.objects import Series, random_values
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


BOMB_BYTES = 300 << 20  # of zeros, in 300 kB


def zip_files(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_dicom(series: Series, **values: object) -> bytes:
    """A study as a zip; ``values`` replace attributes of each object."""
    files = {}
    for number, dataset in enumerate(series.datasets()):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files[f"study/{number}"] = buffer.getvalue()
    return zip_files(files)


def make_nifti_header(
    shape: tuple[int, ...], *, spacing: float = 1.0, datatype: int = 4, bits: int = 16, offset: float = 352
) -> bytes:
    """A NIfTI-1 header that claims what it is told to claim."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<2h", header, 70, datatype, bits)
    struct.pack_into("<8f", header, 76, 1.0, *(spacing,) * 3, *(1.0,) * 4)
    struct.pack_into("<f", header, 108, offset)
    struct.pack_into("<h", header, 254, 1)  # the sform counts
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *(spacing * (row == column) for column in range(4)))
    header[344:348] = b"n+1\0"
    return bytes(header)


def make_png_bomb() -> bytes:
    """A picture of 30,000 × 30,000 pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">2I5B", 30_000, 30_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(30_001 * 100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def make_nested_zip() -> bytes:
    data = bytes(1 << 24)
    for depth in range(4):
        data = zip_files({str(depth): data})
    return data


def write_nifti(folder: Path, values: np.ndarray, *, spacing: float = 1.0) -> bytes:
    path = folder / "crafted.nii.gz"
    write_volume(path, Volume(values, Geometry.from_parts(values.shape, (spacing,) * 3)))
    return path.read_bytes()


def make_uploads(folder: Path) -> dict[str, bytes]:
    """Bodies by what is wrong with them.

    Args:
        folder: for files on their way.
    """
    rng = np.random.default_rng(3)
    bomb = zip_files({"a": bytes(BOMB_BYTES)})
    study = zip_dicom(Series(random_values((6, 20, 24)).clip(0)))
    noise = rng.random((12, 12, 12)).astype(np.float32)
    broken = noise.copy()
    broken[3, 3, 3] = np.nan
    sound = write_nifti(folder, noise)
    voxels = rng.integers(0, 255, 2 * 20**3).astype(np.uint8).tobytes()
    return {
        "nothing": b"",
        "text": b"hello",
        "garbage": rng.bytes(200_000),
        "deep JSON": b"[" * 200_000,
        "zip cut short": study[:-200],
        "zip with flipped bytes": study[:400] + rng.bytes(300) + study[700:],
        "zip bomb": bomb,
        "zip bomb that lies": bomb.replace(struct.pack("<I", BOMB_BYTES), struct.pack("<I", 10)),
        "zips in zips": make_nested_zip(),
        "zip that leads out": zip_files({"../../etc/cron.d/x": b"x"}),
        "zip of 30,000 files": zip_files({str(n): b"" for n in range(30_000)}),
        "zip of text": zip_files({"readme.txt": b"hello"}),
        "study that claims 65,535² pixels": zip_dicom(Series(random_values((2, 16, 16))), Rows=65535, Columns=65535),
        "study of 2 billion frames": zip_dicom(Series(random_values((2, 16, 16))), NumberOfFrames="2000000000"),
        "study without a patient's grid": zip_dicom(Series(random_values((2, 16, 16))), PixelSpacing=[1e30, 1e30]),
        "volume of 30,000³": make_nifti_header((30_000, 30_000, 30_000)),
        "volume of 30,000³, compressed": gzip.compress(make_nifti_header((30_000,) * 3)),
        "volume of no size": make_nifti_header((0, 4, 4)),
        "volume of negative size": make_nifti_header((-5, 4, 4)),
        "volume without voxels": make_nifti_header((20, 20, 20)),
        "volume of 1e30 mm": make_nifti_header((20, 20, 20), spacing=1e30) + voxels,
        "volume of 600 mm voxels": make_nifti_header((20, 20, 20), spacing=600.0) + voxels,
        "volume of 0 mm": make_nifti_header((20, 20, 20), spacing=0.0) + voxels,
        "volume whose voxels begin nowhere": make_nifti_header((20, 20, 20), offset=1e18) + voxels,
        "volume of an unknown type": make_nifti_header((20, 20, 20), datatype=1234) + voxels,
        "volume with NaN": write_nifti(folder, broken),
        "volume cut short": sound[: len(sound) // 2],
        "gzip of something else": gzip.compress(rng.bytes(5000)),
        "gzip bomb": gzip.compress(make_nifti_header((1500, 1500, 600)) + bytes(BOMB_BYTES)),
        "PNG bomb": make_png_bomb(),
        "radiograph for a volume's model": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }


# What is written to the socket as it is: each is no HTTP, or ends early.
RAW = {
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "header without an end": b"POST /predict HTTP/1.1\r\nHost: a\r\n" + b"X-Filler: " + b"a" * 300_000,
    "body cut short": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"\x1f\x8b" * 100,
    "chunks of no size": b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "length of nothing": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "other route": b"POST /etc/passwd HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "other method": b"DELETE /predict HTTP/1.1\r\nHost: a\r\n\r\n",
}


def send_raw(port: int, data: bytes, seconds: float = 1.0) -> str:
    """Write bytes to the service and hang up; return the first line of an answer, if there is one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(data)
            return connection.recv(200).split(b"\r\n")[0].decode("latin-1")
    except OSError:
        return ""


def is_one_line(text: str) -> bool:
    """Whether a refusal is one line of JSON without a path of the server."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(error, str) and len(error.splitlines()) == 1 and "/tmp" not in error  # noqa: S108
