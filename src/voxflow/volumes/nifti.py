"""Owns writing NIfTI-1: voxels go straight from memory to the file, so that a full disk is an error, not a guess."""

from __future__ import annotations

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
LEVEL = 1
BUFFER = 1 << 20


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
    header = _header(array, volume.geometry, path)
    with path.open("wb") as stream:
        if compress:
            _deflate(stream, header, voxels)
        else:
            stream.write(header)
            stream.write(voxels.data)


def _deflate(stream: BinaryIO, header: bytes, voxels: NDArray[Any]) -> None:
    from isal import igzip

    # No name and no time in the file, so that the same volume is the same file.
    with igzip.IGzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=stream, mtime=0) as deflated:
        deflated.write(header)
        whole = voxels.data.cast("B")
        for begin in range(0, len(whole), BUFFER):
            deflated.write(whole[begin : begin + BUFFER])


def _header(array: NDArray[Any], geometry: Geometry, path: Path) -> bytes:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.spatialimages import HeaderDataError

    header = Nifti1Header()
    try:
        header.set_data_dtype(array.dtype)
    except HeaderDataError as error:
        raise DataError(f"NIfTI has no voxel type {array.dtype}", path=path) from error
    header.set_data_shape(array.shape)
    header.set_qform(geometry.affine_ras, code=SCANNER, strip_shears=True)
    header.set_sform(geometry.affine_ras, code=SCANNER)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["vox_offset"] = len(header.binaryblock) + len(NO_EXTENSION)
    return bytes(header.binaryblock) + NO_EXTENSION
