"""Headers of image files: size, spacing and bits from the first few bytes, without an imaging library."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import require_regular_file

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 4096
MAX_TEXT = 1 << 20  # longer than any header of text
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
RADIOGRAPHS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}
_NIFTI_BITS = {2: 8, 256: 8, 4: 16, 512: 16, 8: 32, 768: 32, 16: 32, 64: 64, 1024: 64, 1280: 64}


@dataclass(frozen=True)
class ImageHeader:
    """What the head of an image file says.

    Attributes:
        size: voxels along (i, j, k), or (rows, columns).
        spacing: mm along the same axes; 1 where the format has none.
        channels: values a voxel, or volumes of a 4D file.
        bits: of one value; 0 where unknown.
        colour: PNG: "grey", "RGB", "palette", "grey and alpha" or "RGBA"; else empty.
        missing: bytes that the file is too short by; 0 where only reading it all would tell.
        is_doubtful: a compressed file whose end states another length than its header, as where it is cut off; only
            reading it all tells.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int = 1
    bits: int = 0
    colour: str = ""
    missing: int = 0
    is_doubtful: bool = False


def is_volume(path: Path) -> bool:
    """Whether a file's name says that it is a volume.

    Example:
        >>> from pathlib import Path
        >>> is_volume(Path("case1.nii.gz")), is_volume(Path("case1.png"))
        (True, False)
    """
    return path.name.lower().endswith(VOLUMES)


def is_radiograph(path: Path) -> bool:
    """Whether a file's name says that it is a flat image."""
    return path.name.lower().endswith(RADIOGRAPHS)


def read_header(path: Path) -> ImageHeader | None:
    """Read a file's head.

    Returns:
        None for formats whose head this module does not know.

    Raises:
        DataError: the file is not what its name says.
        OSError: the file can't be read.
    """
    require_regular_file(path)
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _read_nifti(path)
        if name.endswith((".mha", ".mhd")):
            return _read_meta_image(path)
        if name.endswith((".nrrd", ".nhdr")):
            return _read_nrrd(path)
        return _read_png(path) if name.endswith(".png") else None
    except (ValueError, KeyError, IndexError, ArithmeticError, struct.error, zlib.error) as error:
        raise DataError(f"unreadable header: {error}", path=path) from error


def _read_nifti(path: Path) -> ImageHeader:
    head = _read_head(path)
    compressed = head[:2] == b"\x1f\x8b"
    if compressed:
        # 31: with gzip's own header. The first kilobyte is enough, so a cut-off file is read as far as it goes.
        head = zlib.decompressobj(31).decompress(head, 1024)
    # NIfTI-1 has a header of 348 bytes with dim[8] (int16) at byte 40, pixdim[8] (float32) at 76, datatype at 70 and
    # vox_offset at 108; NIfTI-2 has 540 bytes with int64 and float64 at other places. The first field, the header's own
    # size, tells which it is and in which byte order.
    for order in "<>":
        length = struct.unpack_from(f"{order}i", head)[0]
        if length == 348:
            dims = struct.unpack_from(f"{order}8h", head, 40)
            steps = struct.unpack_from(f"{order}8f", head, 76)
            code, offset = struct.unpack_from(f"{order}h", head, 70)[0], struct.unpack_from(f"{order}f", head, 108)[0]
        elif length == 540:
            dims = struct.unpack_from(f"{order}8q", head, 16)
            steps = struct.unpack_from(f"{order}8d", head, 104)
            code, offset = struct.unpack_from(f"{order}h", head, 12)[0], struct.unpack_from(f"{order}q", head, 168)[0]
        else:
            continue
        count = dims[0]
        size = tuple(dims[1 : 1 + min(count, 3)])
        if not 1 <= count <= 7 or min(size) < 1:
            raise ValueError(f"dimensions {list(dims)}")
        channels = math.prod(max(1, n) for n in dims[4 : 1 + count])
        bits = _NIFTI_BITS.get(code, 0)
        expected_bytes = int(offset) + math.prod(size) * channels * bits // 8
        missing = 0 if compressed else max(0, expected_bytes - path.stat().st_size)
        is_doubtful = compressed and _read_gzip_length(path) != expected_bytes % 2**32
        spacing = tuple(abs(step) for step in steps[1 : 1 + len(size)])
        return ImageHeader(size, spacing, channels, bits, missing=missing, is_doubtful=is_doubtful)
    raise ValueError("no NIfTI header")


def _read_gzip_length(path: Path) -> int:
    """The length modulo 2^32 that the last four bytes of a gzip file state (RFC 1952, ISIZE)."""
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")


def _read_meta_image(path: Path) -> ImageHeader:
    fields: dict[str, str] = {}
    for line in _read_text_header(path, b"ElementDataFile"):
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip()] = value.strip()
    size = tuple(int(n) for n in fields["DimSize"].split())
    steps = fields.get("ElementSpacing") or fields.get("ElementSize") or " ".join("1" for _ in size)
    return ImageHeader(size, tuple(float(n) for n in steps.split()), int(fields.get("ElementNumberOfChannels", 1)))


def _read_nrrd(path: Path) -> ImageHeader:
    lines = _read_text_header(path, b"\n\n")
    if not lines[0].startswith("NRRD"):
        raise ValueError("no NRRD header")
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))
    sizes = [int(n) for n in fields["sizes"].split()]
    kinds = fields.get("kinds", " ".join("domain" for _ in sizes)).split()
    spatial = [kind in {"domain", "space", "none", "???"} for kind in kinds]
    size = tuple(n for n, inside in zip(sizes, spatial, strict=True) if inside)
    if "space directions" in fields:
        vectors = [part for part in fields["space directions"].split() if part != "none"]
        spacing = tuple(math.hypot(*map(float, part.strip("()").split(","))) for part in vectors)
    else:
        spacing = tuple(float(n) for n in fields.get("spacings", "").split()) or (1.0,) * len(size)
    return ImageHeader(size, spacing, math.prod(sizes) // math.prod(size))


def _read_png(path: Path) -> ImageHeader:
    head = _read_head(path)
    if not head.startswith(_PNG) or head[12:16] != b"IHDR":
        raise ValueError("no PNG header")
    # The signature (8 bytes) and IHDR's length and name (8) come first; PNG (ISO 15948), section 11.2.2.
    columns, rows, bits, colour = struct.unpack_from(">IIBB", head, 16)
    return ImageHeader((rows, columns), (1.0, 1.0), 1, bits, _PNG_COLOURS[colour])


def _read_head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(CHUNK)


def _read_text_header(path: Path, end: bytes) -> list[str]:
    """The lines of a header of text, up to the line that ends it."""
    head = b""
    with path.open("rb") as stream:
        while end not in head.replace(b"\r\n", b"\n") and len(head) < MAX_TEXT:
            more = stream.read(CHUNK)
            if not more:
                break
            head += more
    lines = head.replace(b"\r\n", b"\n").split(b"\n\n", 1)[0] if end == b"\n\n" else head
    return lines.decode("latin-1").splitlines()
