"""The voxels of NIfTI files, straight between memory and disk, so that a full disk or a cut file is an error.

ITK reads a file that ends early without a word, and fills the rest with whatever its memory held: here every byte is
counted, and the checksum of a compressed file is held against what came out.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry
    from voxflow.volumes.volume import Volume

NO_EXTENSION = bytes(4)
SCANNER = 1  # the code that says that the affine is in scanner coordinates
MILLIMETRES = 2
# Of four, the one whose files are the smallest, and no slower on images than the others.
LEVEL = 3
BUFFER = 1 << 20

_HEADER = struct.Struct("<i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s")
_DATATYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


def write_nifti(path: Path, volume: Volume, *, compress: bool) -> None:
    """Write header, then voxels with i fastest; equal volumes make equal bytes.

    Args:
        path: the file, replaced when it is there.
        volume: of any integer or float type that NIfTI has; bool is written as uint8.
        compress: deflate, at the level whose files are a few per cent larger and written many times faster.

    Raises:
        OSError: the file can't be written.
        DataError: NIfTI has no such voxel type.
    """
    array = volume.array.astype(np.uint8) if volume.array.dtype == np.bool_ else volume.array
    voxels = np.ascontiguousarray(array.transpose(2, 1, 0))
    voxels = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    header = _build_header(array, volume.geometry, path)
    with path.open("wb") as stream:
        if compress:
            _write_compressed(stream, header, voxels)
        else:
            stream.write(header)
            stream.write(voxels.data)


def read_voxels(path: Path) -> NDArray[Any] | None:
    """Read the voxels of a .nii or .nii.gz file, and make sure that it is whole.

    Returns:
        Real values with axes (i, j, k, ...) as many as the header says, NaN included (ITK reads zeros there): as
        stored, or float32 (of float64, float64) where the header scales them. None for types that NumPy lacks.

    Raises:
        DataError: the file is damaged, ends early, or has no NIfTI header.
    """
    import zlib

    from isal import igzip

    try:
        with igzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
            layout = _parse_layout(stream.read(_HEADER.size), path)
            stream.seek(layout.offset)
            raw = np.empty(layout.bytes, dtype=np.uint8)
            byte_count = _read_into(stream, raw)
            while stream.read(BUFFER):  # the checksum stands at the end
                pass
    except FileNotFoundError as error:
        raise DataError("file not found", path=path) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"unreadable image: damaged, or it ends early: {error}", path=path) from error
    if byte_count < layout.bytes:
        raise DataError(
            f"unreadable image: it ends early, {layout.bytes} bytes of voxels are claimed and {byte_count} are there",
            path=path,
        )
    if layout.dtype is None:
        return None
    voxels = raw.view(layout.dtype).reshape(layout.size, order="F")
    slope, intercept = layout.scale
    if (slope, intercept) == (1, 0):
        return voxels.astype(layout.dtype.newbyteorder("="), copy=False)
    scaled = voxels.astype(np.float64) * slope + intercept
    return scaled if layout.dtype.str[1:] == "f8" else scaled.astype(np.float32)


@dataclass(frozen=True)
class _VoxelLayout:
    """What a NIfTI header says of the voxels that follow it.

    Attributes:
        offset: of the first voxel in the uncompressed file, bytes.
        size: voxels along (i, j, k, ...), as many axes as the header states.
        bytes: of all voxels.
        dtype: of a voxel, with its byte order; None for a type that NumPy lacks.
        scale: slope and intercept; (1, 0) where nothing is scaled.
    """

    offset: int
    size: tuple[int, ...]
    bytes: int
    dtype: np.dtype[Any] | None
    scale: tuple[float, float]


def _parse_layout(header: bytes, path: Path) -> _VoxelLayout:
    order = next((o for o in "<>" if header[:4] == struct.pack(f"{o}i", _HEADER.size)), "")
    if header[4:8] == b"n+2\0":
        raise DataError("unreadable image: NIfTI-2, which few tools read; save it as NIfTI-1", path=path)
    if not order or header[344:348] != b"n+1\0":
        raise DataError("unreadable image: no header of a single NIfTI-1 file", path=path)
    sizes = struct.unpack(f"{order}8h", header[40:56])
    datatype, bits = struct.unpack(f"{order}2h", header[70:74])
    offset, slope, intercept = struct.unpack(f"{order}3f", header[108:120])
    size = sizes[1 : 1 + sizes[0]]
    if not 1 <= sizes[0] <= 7 or min(size) < 1 or bits < 1:
        raise DataError(f"unreadable image: its header claims the size {list(sizes)}", path=path)
    name = {number: name for name, number in _DATATYPES.items()}.get(datatype)
    dtype = np.dtype(f"{order}{name}") if name else None
    # A slope of 0 means that nothing is scaled; one that is no number can mean nothing else.
    scale = (slope, intercept) if slope and math.isfinite(slope) and math.isfinite(intercept) else (1.0, 0.0)
    return _VoxelLayout(int(offset), size, math.prod(size) * bits // 8, dtype, scale)


def _read_into(stream: Any, raw: NDArray[np.uint8]) -> int:
    byte_count, view = 0, raw.data
    while byte_count < len(view):
        read_count = stream.readinto(view[byte_count : byte_count + BUFFER])
        if not read_count:
            break
        byte_count += read_count
    return byte_count


def _write_compressed(stream: BinaryIO, header: bytes, voxels: NDArray[Any]) -> None:
    from isal import igzip

    # No name and no time in the file, so that the same volume is the same file.
    with igzip.IGzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=stream, mtime=0) as archive:
        archive.write(header)
        voxel_bytes = voxels.data.cast("B")
        for begin in range(0, len(voxel_bytes), BUFFER):
            archive.write(voxel_bytes[begin : begin + BUFFER])


def _build_header(array: NDArray[Any], geometry: Geometry, path: Path) -> bytes:
    """The 348 bytes of a NIfTI-1 header, and the four that say that no extension follows."""
    datatype = _DATATYPES.get(array.dtype.str[1:])
    if datatype is None:
        raise DataError(f"NIfTI has no voxel type {array.dtype}", path=path)
    affine = geometry.affine_ras
    spacing = geometry.spacing
    handedness, quaternion = _compute_quaternion(affine[:3, :3] / np.asarray(spacing))
    return _HEADER.pack(
        _HEADER.size, b"", b"", 0, 0, b"\0", 0,
        3, *array.shape, 1, 1, 1, 1,
        0, 0, 0, 0, datatype, array.dtype.itemsize * 8, 0,
        handedness, *spacing, 1, 1, 1, 1,
        _HEADER.size + len(NO_EXTENSION), 1, 0, 0, 0, MILLIMETRES,
        0, 0, 0, 0, 0, 0, b"", b"", SCANNER, SCANNER,
        *quaternion, *affine[:3, 3], *affine[:3].ravel(), b"", b"n+1",
    ) + NO_EXTENSION  # fmt: skip


def _compute_quaternion(direction: NDArray[np.float64]) -> tuple[float, tuple[float, float, float]]:
    """NIfTI's handedness (1, or -1 where the third axis points back) and quaternion (b, c, d) of three axes in RAS.

    Axes that are not perpendicular get the nearest that are; the affine beside it keeps them as they stand.
    """
    u, _, v = np.linalg.svd(direction)
    axes = u @ v
    handedness = 1.0 if np.linalg.det(axes) > 0 else -1.0
    axes = axes * [1, 1, handedness]
    # The four ways to the quaternion (a, b, c, d), each good where its first number is large; a is not negative.
    x, y, z = np.diag(axes)
    squares = np.array([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z])
    largest = int(np.argmax(squares))
    (_, xy, xz), (yx, _, yz), (zx, zy, _) = axes
    pairs = np.array([
        [squares[0], zy - yz, xz - zx, yx - xy],
        [zy - yz, squares[1], yx + xy, xz + zx],
        [xz - zx, yx + xy, squares[2], zy + yz],
        [yx - xy, xz + zx, zy + yz, squares[3]],
    ])  # fmt: skip
    quaternion = pairs[largest] / np.linalg.norm(pairs[largest])
    _, b, c, d = quaternion if quaternion[0] >= 0 else -quaternion
    return handedness, (float(b), float(c), float(d))
