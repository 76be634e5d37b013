"""Checks what clients send: its kind, and whether it may be unpacked. Names in an archive are never used."""

from __future__ import annotations

import gzip
import math
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from voxflow.serving.limits import MB, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.serving.limits import ServeLimits

UploadKind = Literal["nifti", "nifti.gz", "zip", "png"]

NIFTI_HEADER = 348
_STARTS: tuple[tuple[bytes, UploadKind], ...] = ((b"\x1f\x8b", "nifti.gz"), (b"PK\x03\x04", "zip"), (b"\x89PNG", "png"))
_BLOCK = 1 << 20


def detect_kind(upload: Path) -> UploadKind:
    """What was sent, by its first bytes.

    Raises:
        RefusedError: 415, it is nothing that is known here.
    """
    with upload.open("rb") as stream:
        start = stream.read(4)
    for signature, kind in _STARTS:
        if start.startswith(signature):
            return kind
    if start in (struct.pack("<i", NIFTI_HEADER), struct.pack(">i", NIFTI_HEADER)):
        return "nifti"
    raise RefusedError(415, "expected a NIfTI-1 volume (.nii, .nii.gz), a zip of DICOM files, or a PNG radiograph")


def check_nifti(upload: Path, kind: UploadKind, limits: ServeLimits) -> None:
    """Hold a volume's claimed size against the bound before a reader takes memory for it.

    Raises:
        RefusedError: 413 where it is too large, 422 where it has no NIfTI header.
    """
    try:
        with gzip.open(upload, "rb") if kind == "nifti.gz" else upload.open("rb") as stream:
            header = stream.read(NIFTI_HEADER)
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(422, f"unreadable image: damaged, or it ends early: gzip: {error}") from error
    if len(header) < NIFTI_HEADER:
        raise RefusedError(422, f"the NIfTI header has 348 bytes, received {len(header)}")
    # Of a NIfTI-1 header: its length at byte 0 tells the byte order; dim at 40, bitpix at 72, magic at 344.
    order = "<" if header[:4] == struct.pack("<i", NIFTI_HEADER) else ">"
    if struct.unpack(f"{order}i", header[:4])[0] != NIFTI_HEADER:
        raise RefusedError(415, "the compressed file is no NIfTI-1 volume")
    if header[344:348] != b"n+1\0":
        raise RefusedError(422, "the NIfTI header is not that of a single file (its magic is not n+1)")
    dimensions = struct.unpack(f"{order}8h", header[40:56])
    sizes = dimensions[1 : 1 + max(0, min(7, dimensions[0]))]
    if not sizes or min(sizes) < 1:
        raise RefusedError(422, f"unreadable image: its header claims the size {list(dimensions)}")
    # Inference computes in 32 bits, whatever the file holds.
    bytes_in_memory = math.prod(sizes) * max(4, struct.unpack(f"{order}h", header[72:74])[0] // 8)
    if bytes_in_memory > limits.unpacked_mb * MB:
        raise RefusedError(
            413, f"the volume takes {bytes_in_memory // MB} MB unpacked, at most {limits.unpacked_mb} are taken"
        )


def unpack_zip(upload: Path, target: Path, limits: ServeLimits) -> int:
    """Unpack a zip into numbered files, and return how many.

    Args:
        upload: the zip.
        target: an existing, empty folder.
        limits: on files and bytes; the bytes that really come out are counted, whatever the zip claims.

    Raises:
        RefusedError: 400 where it is damaged or hostile, 413 where it is too much.
    """
    remaining = limits.unpacked_mb * MB
    try:
        with zipfile.ZipFile(upload) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_members(members, limits)
            for number, member in enumerate(members):
                with archive.open(member) as stream, (target / f"{number:06d}").open("wb") as out:
                    while block := stream.read(_BLOCK):
                        remaining -= len(block)
                        if remaining < 0:
                            raise RefusedError(413, f"the zip unpacks to more than {limits.unpacked_mb} MB")
                        out.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(target)
        target.mkdir()
        raise RefusedError(400, f"the zip can't be unpacked: {error}") from error
    return len(members)


def _check_members(members: list[zipfile.ZipInfo], limits: ServeLimits) -> None:
    if not members:
        raise RefusedError(400, "the zip is empty")
    if len(members) > limits.files:
        raise RefusedError(413, f"the zip holds {len(members)} files, at most {limits.files} are taken")
    claimed = sum(member.file_size for member in members)
    if claimed > limits.unpacked_mb * MB:
        raise RefusedError(413, f"the zip unpacks to {claimed // MB} MB, at most {limits.unpacked_mb} are taken")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise RefusedError(400, "the zip holds a path that leads out of it")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise RefusedError(400, "the zip holds a link")
