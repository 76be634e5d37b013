"""Uploads that nobody should send: each of them must be refused, and cost the service nothing that it keeps."""

from __future__ import annotations

import gzip
import io
import json
import socket
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from tests.dicom.objects import Series, random_values
from tests.serving.uploads import zip_files
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


BOMB_BYTES = 300 << 20  # of zeros, in 300 kB


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


UNKNOWN = "expected a NIfTI-1 volume"
# Status of the answer to each, and what it says.
REFUSALS = {
    "nothing": (400, "the body is empty"),
    "text": (415, UNKNOWN),
    "garbage": (415, UNKNOWN),
    "deep JSON": (415, UNKNOWN),
    "zip cut short": (400, "not a zip file"),
    "zip with flipped bytes": (400, "file 1 of 6 in it is damaged"),
    "zip bomb": (413, "the zip unpacks to 300 MB, at most 256 are taken"),
    "zip bomb that lies": (400, "file 1 of 1 in it is damaged"),
    "zips in zips": (422, "none of them is DICOM"),
    "zip that leads out": (400, "a path that leads out of it"),
    "zip of 30,000 files": (413, "holds 30000 files, at most 20000 are taken"),
    "zip of text": (422, "none of them is DICOM"),
    "study that claims 65,535² pixels": (422, "more than 4096 MB decoded"),
    "study of 2 billion frames": (422, "more than 4096 MB decoded"),
    "study without a patient's grid": (422, "at most 100 mm are taken"),
    "volume of 30,000³": (413, "takes 102996826 MB unpacked, at most 4096 are taken"),
    "volume of 30,000³, compressed": (413, "takes 102996826 MB unpacked, at most 4096 are taken"),
    "volume of no size": (422, "its header claims the size [3, 0, 4, 4"),
    "volume of negative size": (422, "its header claims the size [3, -5, 4, 4"),
    "volume without voxels": (422, "16000 bytes of voxels are claimed and at most 0 are there"),
    "volume of 1e30 mm": (422, "finite 4×4 matrix of at most 1e+12 mm"),
    "volume of 600 mm voxels": (422, "600 × 600 × 600 mm apart: at most 100 mm are taken"),
    "volume of 0 mm": (422, "singular"),
    "volume whose voxels begin nowhere": (422, "the voxels begin at byte 1e+18"),
    "volume of an unknown type": (422, "the unknown type 1234"),
    "volume with NaN": (422, "NaN or infinite values"),
    "volume cut short": (422, "it ends early"),
    "gzip of something else": (415, "the compressed file is no NIfTI-1 volume"),
    "gzip bomb": (413, "takes 5149 MB unpacked, at most 4096 are taken"),
    "PNG bomb": (415, "received a radiograph"),
    "radiograph for a volume's model": (415, "received a radiograph"),
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
# Who hangs up within the body has no answer; the log has its status.
RAW_STATUS = {
    "no HTTP": 400,
    "header without an end": 431,
    "body cut short": None,
    "chunks of no size": 400,
    "length of nothing": 400,
    "other route": 404,
    "other method": 405,
}


def send_raw(port: int, data: bytes, seconds: float = 1.0) -> str:
    """Write bytes to the service and hang up; return the first line of an answer, if there is one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(data)
            return connection.recv(200).split(b"\r\n")[0].decode("latin-1")
    except OSError:
        return ""


def read_refusal(text: str) -> str:
    """What a refusal says, which is one line of JSON without a path of the server; empty where it is anything else."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    is_one_line = isinstance(error, str) and len(error.splitlines()) == 1 and "/tmp" not in error  # noqa: S108
    return error if is_one_line else ""
