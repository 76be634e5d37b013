"""Image files: NIfTI, MetaImage and NRRD volumes, PNG radiographs; read with checks, written whole or not at all."""

from __future__ import annotations

import errno
import math
import re
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.bounds import check_array, check_picture, read_limits
from voxflow.errors import DataError
from voxflow.files import atomic_path, require_regular_file, temporary_folder
from voxflow.volumes.alignment import align, round_labels
from voxflow.volumes.foreign import META_SUFFIXES, find_voxels
from voxflow.volumes.nifti import is_nifti, name_file, read_header, read_nifti, write_nifti, write_nifti_channels
from voxflow.volumes.nifti_header import NO_COMPLEX
from voxflow.volumes.volume import Volume, read_sitk_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import SimpleITK as sitk
    from numpy.typing import NDArray
    from PIL import Image

    from voxflow.geometry import Geometry
    from voxflow.volumes.nifti_header import NiftiHeader

# Two files: a header, and the voxels beside it.
HEADER_SUFFIX = ".mhd"
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha", HEADER_SUFFIX, ".nrrd")
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
DATA_SUFFIXES = (".zraw", ".raw")


def strip_suffix(name: str, suffixes: Sequence[str] = VOLUME_SUFFIXES) -> str:
    """A file's name without its suffix, in any case; the name itself where it has another.

    Example:
        >>> strip_suffix("liver_012.NII.GZ")
        'liver_012'
    """
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def read_volume(path: Path) -> Volume:
    """Read a 3D image file, all of it: one that is damaged or ends early is refused.

    Args:
        path: NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd), NRRD (.nrrd, .nhdr); the ending in upper or
            lower case.

    Returns:
        Voxels (i, j, k) and their grid in LPS, mm. Voxels have the file's type, or float where its header scales them;
        NaN and infinite values stay.

    Raises:
        DataError: the file is missing, unreadable, ends early, is not 3D, or has several values a voxel.
    """
    if is_nifti(path):
        voxels, header = read_nifti(path)
        return Volume(voxels[..., 0], _read_grid(path, header))
    with name_file(path):
        return Volume.from_sitk(_read_by_itk(path))


def read_channels(path: Path) -> list[Volume]:
    """Read an image that may hold several channels: a fourth axis, or several values a voxel.

    Returns:
        One volume a channel, all on one grid; a 3D image gives one.

    Raises:
        DataError: the file is missing, unreadable, or neither 3D nor 4D.
    """
    import SimpleITK as sitk

    if is_nifti(path):
        voxels, header = read_nifti(path)
        geometry = _read_grid(path, header, has_channels=True)
        return [Volume(voxels[..., n], geometry) for n in range(header.channels)]
    with name_file(path):
        image = _read_by_itk(path)
        geometry = read_sitk_geometry(image, has_channels=True)
        # (k, j, i), with a fourth axis before it, or with several values a voxel behind it.
        array = sitk.GetArrayFromImage(image)
        if array.ndim == 3:
            return [Volume(array.transpose(2, 1, 0), geometry)]
        channels = array if image.GetDimension() == 4 else np.moveaxis(array, -1, 0)
        return [Volume(channel.transpose(2, 1, 0), geometry) for channel in channels]


def read_image(paths: Sequence[Path], grid: Geometry | None = None) -> list[Volume]:
    """Read the channels of one image, from one file or several, on one grid.

    Args:
        paths: in the order of the channels; each file may hold several.
        grid: that all are brought to; None: the first file's.

    Raises:
        DataError: a file can't be read, or its voxels are not those of the grid.
    """
    volumes: list[Volume] = []
    for path in paths:
        for channel in read_channels(path):
            grid = grid or channel.geometry
            volumes.append(align(channel, grid, path))
    return volumes


def read_label(path: Path, grid: Geometry) -> Volume:
    """Read a label map and bring it onto its image's grid.

    Returns:
        Values as uint8, or uint16 where one is above 255.

    Raises:
        DataError: the file can't be read, its voxels are not the image's, or a value is no whole number from 0.
    """
    label = align(read_volume(path), grid, path)
    return Volume(round_labels(label.array, path), grid)


def read_geometry(path: Path, *, has_channels: bool = False) -> Geometry:
    """Read the geometry of a 3D image without its voxels.

    Args:
        path: the file.
        has_channels: an image of several channels is taken, too.

    Raises:
        DataError: as for :func:`read_volume`.
    """
    if is_nifti(path):
        return _read_grid(path, read_header(path), has_channels=has_channels)
    with name_file(path):
        return read_sitk_geometry(_open_reader(path), has_channels=has_channels)


def _read_grid(path: Path, header: NiftiHeader, *, has_channels: bool = False) -> Geometry:
    if not has_channels and header.channels != 1:
        message = f"expected a 3D image with one value a voxel, received {header.axes}D with {header.components}"
        raise DataError(message, path=path)
    with name_file(path):
        return header.read_geometry()


def _read_by_itk(path: Path) -> sitk.Image:
    """Read a file of another format by ITK, which checks that voxels are there but no checksum."""
    return _open_reader(path, is_intact=True).Execute()


def write_volume(path: Path, volume: Volume) -> None:
    """Write a 3D image whole or not at all; the suffix (:data:`VOLUME_SUFFIXES`) chooses the format.

    Raises:
        DataError: the suffix is unknown.
        OSError: the file can't be written.
    """
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        raise DataError(f"unknown image format, expected one of {', '.join(VOLUME_SUFFIXES)}", path=path)
    if path.name.lower().endswith(HEADER_SUFFIX):
        _write_header_and_data(path, volume)
        return
    with atomic_path(path) as temporary:
        if is_nifti(path):
            write_nifti(temporary, volume, compress=path.name.lower().endswith(".gz"))
        else:
            _write_by_itk(temporary, volume)


def write_channels(path: Path, channels: Sequence[Volume]) -> None:
    """Write channels of one grid as one NIfTI file, whole or not at all; see :func:`read_channels`.

    Raises:
        DataError: NIfTI has no type for the voxels.
        OSError: the file can't be written.
    """
    arrays = [channel.array for channel in channels]
    with atomic_path(path) as temporary:
        compress = path.name.lower().endswith(".gz")
        write_nifti_channels(temporary, arrays, channels[0].geometry, compress=compress)


def _write_header_and_data(path: Path, volume: Volume) -> None:
    """The header, which makes the pair readable, goes first and comes last."""
    with temporary_folder(path.parent) as folder:
        written = folder / path.name
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


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a PNG, JPEG, BMP or TIFF by Pillow, once the size that its header claims is checked; nothing is decoded yet.

    Raises:
        DataError: it is no such picture, it is too large, or what the block does with it fails on damaged data.
    """
    from PIL import Image

    require_regular_file(path)
    # This is the limit that counts; Pillow's own, which it warns of, stays where it is lower.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, read_limits().pixels)
    try:
        # Of the formats that Pillow knows, some start other programs.
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            check_picture(image.height, image.width)
            yield image
    except FileNotFoundError as error:
        raise DataError("file not found", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=error.path or path) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"unreadable image: {error} (limits.pixels in params.yaml)", path=path) from error
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, TypeError, struct.error) as error:
        raise DataError("unreadable image: damaged, cut off, or no picture", path=path) from error


def read_radiograph(path: Path) -> NDArray[Any]:
    """Read a 2D grey image.

    Returns:
        Array of shape (rows, columns): uint8 or uint16 as stored. Colour and alpha are dropped: a
        radiograph stored as RGB or RGBA has equal channels, and their luminance is taken.

    Raises:
        DataError: the file is missing, damaged, no image, or has more pixels than may be taken.
    """
    with open_picture(path) as image:
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image.convert("L"))


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


def _open_reader(path: Path, *, is_intact: bool = False) -> sitk.ImageFileReader:
    """Make a reader that has read the header, once all that it names and claims is checked.

    Args:
        path: the file.
        is_intact: compressed voxels are checked, too.
    """
    import SimpleITK as sitk

    require_regular_file(path)
    if not path.is_file():
        raise DataError("file not found", path=path)
    stored = find_voxels(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # Any other of ITK's classes might take the file, and follow its header elsewhere or read beyond its end.
    reader.SetImageIO("MetaImageIO" if path.name.lower().endswith(META_SUFFIXES) else "NrrdImageIO")
    reader.ReadImageInformation()
    value = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in value:
        raise DataError(NO_COMPLEX)
    bits = re.search(r"(\d+)-bit", value)
    value_bytes, values = int(bits[1]) // 8 if bits else 8, reader.GetNumberOfComponents()
    size = reader.GetSize()
    check_array(size, value_bytes * values, file_bytes=stored.byte_count if stored.deflate else None)
    stored.require_room(math.prod(size) * values, value_bytes)
    if is_intact:
        stored.require_intact(math.prod(size) * values * value_bytes)
    return reader
