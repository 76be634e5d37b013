"""Image files: NIfTI, MetaImage and NRRD volumes, PNG radiographs; read with checks, written whole or not at all."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError, last_line_of
from voxflow.files import atomic_path
from voxflow.volumes.nifti import read_voxels, write_nifti
from voxflow.volumes.volume import Volume, read_sitk_geometry

if TYPE_CHECKING:
    import SimpleITK as sitk
    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

# Two files: a header, and the voxels beside it.
HEADER_SUFFIX = ".mhd"
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha", HEADER_SUFFIX, ".nrrd")
DATA_SUFFIXES = (".zraw", ".raw")


def read_volume(path: Path) -> Volume:
    """Read a 3D image file.

    Args:
        path: NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), NRRD, or whatever else SimpleITK reads.

    Returns:
        Voxels (i, j, k) and their grid in LPS, mm. Voxels have the file's type, or float where its header scales them.

    Raises:
        DataError: the file is missing, unreadable, ends early, is not 3D, or has several values a voxel.
    """
    reader = _open_reader(path)
    voxels = read_voxels(path) if path.name.endswith((".nii", ".nii.gz")) else None
    try:
        if voxels is None:
            return Volume.from_sitk(reader.Execute())
        reader.ReadImageInformation()
        geometry = read_sitk_geometry(reader)
        # A fourth axis of one is none.
        return Volume(voxels.reshape(geometry.size, order="F"), geometry)
    except RuntimeError as error:
        raise DataError(f"unreadable image: {last_line_of(error)}", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=path) from error


def read_channels(path: Path) -> list[Volume]:
    """Read an image that may hold several channels: a fourth axis, or several values a voxel.

    Returns:
        One volume a channel, all on one grid; a 3D image gives one.

    Raises:
        DataError: the file is missing, unreadable, or neither 3D nor 4D.
    """
    import SimpleITK as sitk

    reader = _open_reader(path)
    # ITK fills what a file lacks with whatever its memory held, and reads NaN as zeros.
    voxels = read_voxels(path) if path.name.endswith((".nii", ".nii.gz")) else None
    try:
        if voxels is not None and voxels.ndim == 3:
            reader.ReadImageInformation()
            return [Volume(voxels, read_sitk_geometry(reader))]
        image = reader.Execute()
        if image.GetDimension() == 4:
            return [Volume.from_sitk(image[:, :, :, n]) for n in range(image.GetSize()[3])]
        values = image.GetNumberOfComponentsPerPixel()
        if values > 1:
            return [Volume.from_sitk(sitk.VectorIndexSelectionCast(image, n)) for n in range(values)]
        return [Volume.from_sitk(image)]
    except RuntimeError as error:
        raise DataError(f"unreadable image: {last_line_of(error)}", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=path) from error


def read_geometry(path: Path) -> Geometry:
    """Read the geometry of a 3D image without its voxels.

    Raises:
        DataError: as for :func:`read_volume`.
    """
    reader = _open_reader(path)
    try:
        reader.ReadImageInformation()
        return read_sitk_geometry(reader)
    except RuntimeError as error:
        raise DataError(f"unreadable image: {last_line_of(error)}", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=path) from error


def write_volume(path: Path, volume: Volume) -> None:
    """Write a 3D image whole or not at all; the suffix (:data:`VOLUME_SUFFIXES`) chooses the format.

    Raises:
        DataError: the suffix is unknown.
        OSError: the file can't be written.
    """
    if not path.name.endswith(VOLUME_SUFFIXES):
        raise DataError(f"unknown image format, expected one of {', '.join(VOLUME_SUFFIXES)}", path=path)
    if path.name.endswith(HEADER_SUFFIX):
        _write_header_and_data(path, volume)
        return
    with atomic_path(path) as temporary:
        if path.name.endswith((".nii", ".nii.gz")):
            write_nifti(temporary, volume, compress=path.name.endswith(".gz"))
        else:
            _write_by_itk(temporary, volume)


def _write_header_and_data(path: Path, volume: Volume) -> None:
    """The header, which makes the pair readable, goes first and comes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        _write_by_itk(written, volume)
        path.unlink(missing_ok=True)
        for suffix in DATA_SUFFIXES:
            path.with_suffix(suffix).unlink(missing_ok=True)
            if written.with_suffix(suffix).exists():
                written.with_suffix(suffix).replace(path.with_suffix(suffix))
        written.replace(path)


def _write_by_itk(path: Path, volume: Volume) -> None:
    import SimpleITK as sitk

    try:
        sitk.WriteImage(volume.to_sitk(), str(path), useCompression=True)
        # ITK says nothing of a disk that fills up on the way.
        is_intact = np.array_equal(read_volume(path).array, volume.array, equal_nan=volume.array.dtype.kind == "f")
    except (RuntimeError, DataError) as error:
        raise OSError(errno.EIO, f"could not be written (is the disk full?): {error}", str(path)) from error
    if not is_intact:
        raise OSError(errno.EIO, "could not be written (is the disk full?): what was read back differs", str(path))


def read_radiograph(path: Path) -> NDArray[Any]:
    """Read a 2D grey image.

    Returns:
        Array of shape (rows, columns): uint8 or uint16 as stored. Colour and alpha are dropped: a
        radiograph stored as RGB or RGBA has equal channels, and their luminance is taken.

    Raises:
        DataError: the file is missing or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("L"))
    except FileNotFoundError as error:
        raise DataError("file not found", path=path) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"unreadable image: {error}", path=path) from error


def write_radiograph(path: Path, array: NDArray[Any]) -> None:
    """Write a radiograph as a grey PNG, whole or not at all.

    Args:
        path: the file, replaced when it is there.
        array: (rows, columns), uint8 or uint16.

    Raises:
        DataError: the array has another shape or type.
    """
    from PIL import Image

    if array.ndim != 2 or array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"a PNG holds (rows, columns) of uint8 or uint16, received {array.shape} {array.dtype}", path=path
        )
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def _open_reader(path: Path) -> sitk.ImageFileReader:
    import SimpleITK as sitk

    if not path.is_file():
        raise DataError("file not found", path=path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    return reader
