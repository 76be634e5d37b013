"""Checks what clients send: its kind, and whether it may be unpacked. Names in an archive are never used."""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from voxflow.bounds import FREE_VOXELS, read_limits
from voxflow.serving.limits import MB, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.serving.limits import ServeLimits

UploadKind = Literal["nifti", "nifti.gz", "zip", "png"]

NIFTI_HEADER = 348
NIFTI_STARTS = (struct.pack("<i", NIFTI_HEADER), struct.pack(">i", NIFTI_HEADER))
_STARTS: tuple[tuple[bytes, UploadKind], ...] = ((b"\x1f\x8b", "nifti.gz"), (b"PK\x03\x04", "zip"), (b"\x89PNG", "png"))
_BLOCK = 1 << 20
# The header of a compressed volume begins within so many bytes.
GZIP_START = 1 << 16
# Of a zip's list of files, for each file that it may have; one with a name of usual length takes 100.
DIRECTORY_BYTES = 400
# A zip may unpack to so much, whatever its own size.
FREE_UNPACKED = 256 * MB
ENCRYPTED = 1
# Deflated Explicit VR Little Endian (PS3.5 A.5).
DEFLATED = b"1.2.840.10008.1.2.1.99"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


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
    if start in NIFTI_STARTS:
        return "nifti"
    raise RefusedError(415, "expected a NIfTI-1 volume (.nii, .nii.gz), a zip of DICOM files, or a PNG radiograph")


def check_nifti(upload: Path, kind: UploadKind, limits: ServeLimits, *, used_bytes: int = 0) -> int:
    """Hold a volume's claimed size against the bound before a reader takes memory for it.

    Args:
        upload: the file.
        kind: of :func:`detect_kind`.
        limits: on what is taken.
        used_bytes: in memory, of the other channels of the request.

    Returns:
        Its bytes in memory, and those of the others.

    Raises:
        RefusedError: 413 where it is too large, 422 where it has no NIfTI header.
    """
    header = read_nifti_start(upload, kind)
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
    bytes_in_memory: int = used_bytes + math.prod(sizes) * max(4, struct.unpack(f"{order}h", header[72:74])[0] // 8)
    if bytes_in_memory > limits.unpacked_mb * MB:
        noun = "volumes take" if used_bytes else "volume takes"
        raise RefusedError(
            413, f"the {noun} {bytes_in_memory // MB} MB unpacked, at most {limits.unpacked_mb} are taken"
        )
    return bytes_in_memory


def read_nifti_start(upload: Path, kind: UploadKind) -> bytes:
    """Read the header's bytes of a volume, unpacked; fewer where the file ends early.

    Raises:
        RefusedError: 422, it can't be unpacked.
    """
    with upload.open("rb") as stream:
        if kind != "nifti.gz":
            return stream.read(NIFTI_HEADER)
        # Not gzip, which reads a name of any length in front of the content byte by byte.
        header, compressed = b"", stream.read(GZIP_START)
    try:
        while len(header) < NIFTI_HEADER and compressed:
            member = zlib.decompressobj(wbits=31)
            header += member.decompress(compressed, NIFTI_HEADER - len(header))
            compressed = member.unused_data
    except zlib.error as error:
        raise RefusedError(422, f"unreadable image: damaged, or it ends early: gzip: {error}") from error
    if len(header) < NIFTI_HEADER:
        raise RefusedError(422, "unreadable image: damaged, or it ends early: gzip: no whole NIfTI header in it")
    return header


def check_voxels(sizes: Sequence[Sequence[int]], upload_bytes: int) -> None:
    """Refuse images that have far more voxels than what was sent can hold, before the model is shown them.

    Each takes four bytes there, and time; scans have one or two for each byte of a file, in JPEG 2000 up to ten.

    Args:
        sizes: voxels along each axis of each image.
        upload_bytes: of the file that was sent.

    Raises:
        RefusedError: 413.
    """
    voxels, most = sum(map(math.prod, sizes)), read_limits().expansion // 4
    if voxels > max(FREE_VOXELS, most * upload_bytes):
        raise RefusedError(
            413, f"{upload_bytes} bytes hold images of {voxels} voxels: at most {most} for each byte are taken"
        )


def unpack_zip(upload: Path, target: Path, limits: ServeLimits) -> list[str]:
    """Unpack a zip into numbered files, and return what each is called in the zip; no path may be made of that.

    Args:
        upload: the zip.
        target: an existing, empty folder.
        limits: on files and bytes; the bytes that really come out are counted, whatever the zip claims.

    Raises:
        RefusedError: 400 where it is damaged or hostile, 413 where it is too much.
    """
    try:
        with _BoundedFile(upload, DIRECTORY_BYTES * limits.files) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > limits.files:
                raise RefusedError(413, f"the zip holds {len(members)} files, at most {limits.files} are taken")
            members = [member for member in members if not member.is_dir()]
            most = min(limits.unpacked_mb * MB, max(FREE_UNPACKED, read_limits().expansion * upload.stat().st_size))
            _check_members(members, most)
            remaining = most
            for number, member in enumerate(members, start=1):
                try:
                    remaining = _unpack_member(archive, member, target / f"{number:06d}", remaining)
                except _ZIP_ERRORS as error:  # whose words hold the file's name
                    raise zipfile.BadZipFile(f"file {number} of {len(members)} in it is damaged") from error
    except _ZIP_ERRORS as error:
        raise RefusedError(400, f"the zip can't be unpacked: {error}") from error
    return [member.filename for member in members]


class _BoundedFile(io.FileIO):
    """A file of which only so many bytes are read at a time: zipfile reads a zip's list of files in one piece."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self._most = max(most, 2 * _BLOCK)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > self._most:
            raise zipfile.BadZipFile("its list of files is too long")
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            raise zipfile.BadZipFile("it names a place in front of its beginning") from error


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, remaining: int) -> int:
    """Unpack one file, and return how many bytes the others may have.

    A DICOM file may be deflated once more, inside.
    """
    from voxflow.dicom import count_inflated_bytes

    is_deflated = False
    with archive.open(member) as stream, target.open("wb") as out:
        while block := stream.read(_BLOCK):
            is_deflated = is_deflated or DEFLATED in block[:1024]
            remaining -= len(block)
            if remaining < 0:
                raise RefusedError(413, "the zip unpacks to more than it claims, and more than is taken")
            out.write(block)
    if is_deflated:
        remaining -= count_inflated_bytes(target, remaining)
        if remaining < 0:
            raise RefusedError(413, "the zip holds deflated DICOM files that inflate to more than is taken")
    return remaining


def _check_members(members: list[zipfile.ZipInfo], most: int) -> None:
    if not members:
        raise RefusedError(400, "the zip is empty")
    claimed = sum(member.file_size for member in members)
    if claimed > most:
        raise RefusedError(413, f"the zip unpacks to {claimed // MB} MB, at most {most // MB} are taken")
    if len({member.filename for member in members}) < len(members):
        raise RefusedError(400, "the zip holds one name twice")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise RefusedError(400, "the zip holds a path that leads out of it")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise RefusedError(400, "the zip holds a link, or something else that is no file")
        if member.flag_bits & ENCRYPTED:
            raise RefusedError(400, "the zip is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError(400, f"the zip is compressed by method {member.compress_type}; deflate is read")
