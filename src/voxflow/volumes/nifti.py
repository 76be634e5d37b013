"""The voxels of NIfTI files, straight between memory and disk, so that a full disk or a cut file is an error.

ITK reads a file that ends early without a word, and fills the rest with whatever its memory held: here every byte is
counted, and the checksum of a compressed file is held against what came out.
"""

from __future__ import annotations

import io
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from voxflow.bounds import check_array
from voxflow.errors import LIBRARY_ERRORS, DataError, last_line_of
from voxflow.files import require_regular_file
from voxflow.geometry import NiftiForms
from voxflow.volumes.nifti_header import DATATYPES, HEADER_BYTES, NiftiHeader, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
GZIP = b"\x1f\x8b"
CHUNK = 1 << 16  # of compressed bytes: at most 66 MB come of it
SLACK = 1 << 26  # bytes that may follow the voxels
MOST_DEFLATED = 1100  # deflate makes at most 1032 bytes of one
ENDINGS = (".nii.gz", ".nii", ".hdr.gz", ".hdr", ".img.gz", ".img")

_HEADER = struct.Struct("<i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s")


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
    write_nifti_channels(path, [array], volume.geometry, compress=compress)


def write_nifti_channels(path: Path, arrays: Sequence[NDArray[Any]], geometry: Geometry, *, compress: bool) -> None:
    """Write one image of several channels, as the fourth axis; one array gives a 3D file.

    Args:
        path: as of :func:`write_nifti`.
        arrays: one (i, j, k) a channel; the file has the type that holds the values of all.
        geometry: their grid.
        compress: as of :func:`write_nifti`.

    Raises:
        OSError, DataError: as of :func:`write_nifti`.
    """
    dtype = np.result_type(*arrays).newbyteorder("<")
    voxels = np.ascontiguousarray(arrays[0].transpose(2, 1, 0)).astype(dtype, copy=False)
    if len(arrays) > 1:
        voxels = np.stack([array.transpose(2, 1, 0).astype(dtype, copy=False) for array in arrays])
    header = _build_header(voxels, geometry, path)
    with path.open("wb") as stream:
        if compress:
            _write_compressed(stream, header, voxels)
        else:
            stream.write(header)
            stream.write(voxels.data)


def read_header(path: Path) -> NiftiHeader:
    """Read what the header of a NIfTI-1 file says.

    Args:
        path: .nii, compressed or not, or one of the two files of a pair (.hdr, .img).

    Raises:
        DataError: the file is missing, has no header that can be read, or claims more than may be taken.
    """
    with name_file(path), _open(_find_header_file(path)) as stream:
        header = parse_header(stream.read(HEADER_BYTES))
        check_array(header.size, header.voxel_bytes)
        return header


def read_nifti(path: Path) -> tuple[NDArray[Any], NiftiHeader]:
    """Read the voxels of a NIfTI-1 file, and make sure that it is whole.

    Returns:
        Real values with axes (i, j, k, channel), NaN included (ITK reads zeros there): as stored, or float32 (of
        float64, float64) where the header scales them. The header beside them.

    Raises:
        DataError: the file is damaged, ends early, or has no header that can be read.
    """
    with name_file(path):
        header, raw = _read_file(_find_header_file(path))
        if header.is_pair:
            image = path.with_name(path.name[: -len(_find_ending(path))] + _find_pair_ending(path, "img"))
            _, raw = _read_file(image, header)
    values = raw.view(header.dtype)
    if header.components > 1:  # the colours of a voxel stand together
        voxels = np.moveaxis(values.reshape((header.components, *header.size), order="F"), 0, -1)
    else:
        voxels = values.reshape(header.size, order="F")
    voxels = voxels.reshape((*header.size[:3], -1), order="F")
    slope, intercept = header.scale
    if (slope, intercept) == (1, 0):
        return voxels.astype(header.dtype.newbyteorder("="), copy=False), header
    return _scale(voxels, slope, intercept), header


def _scale(voxels: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Scale stored values (i, j, k, channel) in double precision, slice by slice, since all at once takes 16 bytes."""
    scaled = np.empty_like(voxels, dtype=np.float64 if voxels.dtype.str[1:] == "f8" else np.float32, order="F")
    for k in range(voxels.shape[2]):
        scaled[:, :, k] = voxels[:, :, k].astype(np.float64) * slope + intercept
    return scaled


def is_nifti(path: Path) -> bool:
    """Whether a file's name says that it is NIfTI, in whatever case.

    Example:
        >>> from pathlib import Path
        >>> is_nifti(Path("CASE.NII.GZ")), is_nifti(Path("case.mha"))
        (True, False)
    """
    return path.name.lower().endswith(ENDINGS)


def _find_ending(path: Path) -> str:
    return next(ending for ending in ENDINGS if path.name.lower().endswith(ending))


def _find_pair_ending(path: Path, kind: str) -> str:
    """The ending of the file of a pair that holds "hdr" or "img", written as the other one's is."""
    ending = path.name[-len(_find_ending(path)) :]
    kind = kind.upper() if ending[1:4].isupper() else kind
    return f".{kind}{ending[4:]}"


def _find_header_file(path: Path) -> Path:
    if not _find_ending(path).startswith(".img"):
        return path
    return path.with_name(path.name[: -len(_find_ending(path))] + _find_pair_ending(path, "hdr"))


@contextmanager
def name_file(path: Path) -> Iterator[None]:
    """Say of a file that can't be read which one it is, whatever reads it.

    Raises:
        DataError: for every error that a damaged or missing file is known to raise.
    """
    import zlib

    from isal import igzip_lib

    try:
        yield
    except FileNotFoundError as error:
        raise DataError("file not found", path=error.filename or path) from error
    except (*LIBRARY_ERRORS, OSError, EOFError, zlib.error, igzip_lib.IsalError) as error:  # type: ignore[misc]
        raise DataError(f"unreadable image: damaged, or it ends early: {last_line_of(error)}", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=error.path or path) from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file; its first bytes tell whether it is compressed, since names are not always right."""
    from isal import igzip

    require_regular_file(path)
    with path.open("rb") as stream:
        is_compressed = stream.read(2) == GZIP
        stream.seek(0)
        if not is_compressed:
            yield stream
            return
        with igzip.IGzipFile(fileobj=stream, mode="rb") as archive:
            yield archive


def _read_file(path: Path, header: NiftiHeader | None = None) -> tuple[NiftiHeader, NDArray[np.uint8]]:
    """The header, and the bytes of the voxels that stand behind it; none where they stand in a file of their own.

    Args:
        path: the file.
        header: of the file of voxels of a pair, which has none itself.
    """
    from isal import igzip_lib

    try:
        with _open(path) as stream:
            return _read_stream(stream, path, header)
    except (EOFError, OSError, igzip_lib.IsalError):  # type: ignore[misc]
        content = _inflate_members(path, header)
        if content is None:
            raise
        return _read_stream(io.BytesIO(content), path, header)


def _read_stream(stream: Any, path: Path, header: NiftiHeader | None) -> tuple[NiftiHeader, NDArray[np.uint8]]:
    is_of_pair = header is not None
    header = header or parse_header(stream.read(HEADER_BYTES))
    if header.is_pair and not is_of_pair:
        return header, np.empty(0, np.uint8)
    # Before memory is taken for what can't be there.
    file_bytes, is_compressed = path.stat().st_size, not isinstance(stream, io.BufferedReader)
    most = file_bytes * MOST_DEFLATED if is_compressed else max(0, file_bytes - header.offset)
    if header.bytes > most:
        raise DataError(_describe_short(header, most))
    check_array(header.size, header.voxel_bytes, file_bytes=file_bytes if is_compressed else None)
    raw = np.empty(header.bytes, dtype=np.uint8)
    stream.seek(header.offset)
    byte_count = _read_into(stream, raw)
    if byte_count < header.bytes:
        raise DataError(_describe_short(header, byte_count))
    if is_compressed:
        _read_to_end(stream)
    return header, raw


def _read_to_end(stream: Any) -> None:
    """Read what follows the voxels, since the checksum stands at the end; a little is padding, much is a bomb."""
    remaining = SLACK
    while block := stream.read(BUFFER):
        remaining -= len(block)
        if remaining < 0:
            raise DataError(f"unreadable image: it unpacks to {SLACK >> 20} MB more than its header says")


def _describe_short(header: NiftiHeader, byte_count: int) -> str:
    return (
        f"unreadable image: damaged, or it ends early: {header.bytes} bytes of voxels are claimed and at most "
        f"{byte_count} are there"
    )


def _inflate_members(path: Path, header: NiftiHeader | None) -> bytes | None:
    """What the whole members of a gzip file hold, where rubbish follows them; None where a member is not whole.

    Only asked where reading failed: a reader that goes straight on can't tell rubbish from a member that ends early.

    Args:
        path: the file.
        header: of the image; None: it is in the file itself. No more is inflated than it says.
    """
    import zlib

    compressed = path.read_bytes()
    inflated, position = bytearray(), 0
    most = 0 if header is None else header.offset + header.bytes + SLACK
    member: Any = None
    while position < len(compressed) and (member is not None or compressed.startswith(GZIP, position)):
        member = member or zlib.decompressobj(wbits=31)  # gzip, its checksum included
        chunk = compressed[position : position + CHUNK]
        try:
            inflated += member.decompress(chunk)
            if not most and len(inflated) >= HEADER_BYTES:
                header = parse_header(bytes(inflated[:HEADER_BYTES]))
                most = header.offset + header.bytes + SLACK
        except (zlib.error, DataError):
            return None
        if most and len(inflated) > most:
            return None
        position += len(chunk) - len(member.unused_data)
        member = None if member.eof else member
    return bytes(inflated) if member is None else None


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


# The header counts voxels in 16 bits with a sign.
MAX_AXIS = 32_767


def _build_header(voxels: NDArray[Any], geometry: Geometry, path: Path) -> bytes:
    """The 348 bytes of a NIfTI-1 header of (k, j, i) or (channel, k, j, i), and four: no extension follows."""
    datatype, shape = DATATYPES.get(voxels.dtype.str[1:]), voxels.shape[::-1]
    if datatype is None:
        raise DataError(f"NIfTI has no voxel type {voxels.dtype}", path=path)
    if max(shape) > MAX_AXIS:
        size = " × ".join(map(str, shape))
        raise DataError(f"NIfTI holds at most {MAX_AXIS} voxels along an axis, received {size}", path=path)
    forms = geometry.forms
    if forms is None or not np.isfinite([*forms.pixdim, *forms.quaternion, *forms.rows]).all():
        forms = _state_scanner(geometry)
    return _HEADER.pack(
        _HEADER.size, b"", b"", 0, 0, b"\0", 0,
        len(shape), *shape, *[1] * (7 - len(shape)),
        0, 0, 0, 0, datatype, voxels.dtype.itemsize * 8, 0,
        *forms.pixdim, 1, 1, 1, 1,
        _HEADER.size + len(NO_EXTENSION), 1, 0, 0, 0, forms.units,
        0, 0, 0, 0, 0, 0, b"", b"", forms.qform_code, forms.sform_code,
        *forms.quaternion, *forms.rows, b"", b"n+1",
    ) + NO_EXTENSION  # fmt: skip


def _state_scanner(geometry: Geometry) -> NiftiForms:
    """State a grid that came from elsewhere, both ways alike, in scanner coordinates."""
    affine, spacing = geometry.affine_ras, geometry.spacing
    handedness, quaternion = _compute_quaternion(affine[:3, :3] / np.asarray(spacing))
    offset, rows = affine[:3, 3].tolist(), affine[:3].ravel().tolist()
    return NiftiForms(SCANNER, SCANNER, (handedness, *spacing), (*quaternion, *offset), tuple(rows), MILLIMETRES)


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
