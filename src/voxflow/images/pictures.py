"""Reads pictures (PNG, JPEG, BMP, TIFF) that are radiographs, and refuses those whose grey values can't be trusted."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.volumes import open_picture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

# What a lossy compression may make of three equal channels.
MAX_CHANNEL_DIFFERENCE = 4
ORIENTATION = 0x0112  # of Exif; 1 is upright
PHOTOMETRIC = 0x0106  # of TIFF; 0: the least value is white
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")
GREY_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif")
SCAN, MOST_SCANS = b"\xff\xda", 100  # of a progressive JPEG, which is decoded anew for each; cameras make 10
MOST_PAGES = 10
PIXELS_AT_A_TIME = 1 << 22
SAVE_AS = "save it as a grey PNG of 8 or 16 bits"


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a radiograph.

    Returns:
        Array of shape (rows, columns): uint8, or uint16 where more bits are stored. Three equal colours are one grey.

    Raises:
        DataError: no picture, cut off, of several pages, turned by its Exif data, in colour, transparent, or of values
            that are no whole numbers up to 65535.
    """
    try:
        # Pillow warns of what it leaves out of a damaged file.
        with warnings.catch_warnings(action="error", category=UserWarning):
            # It decodes a PNG without a look at its checksums, but for this; and it forgets the file.
            with open_picture(path) as image:
                image.verify()
            with open_picture(path) as image:
                _check_layout(image, path)
                return _read_grey(image)
    except UserWarning as warning:
        raise DataError(f"unreadable image: damaged: {warning}", path=path) from warning


def _check_layout(image: Image.Image, path: Path) -> None:
    pages = _count_pages(image)
    if pages > 1:
        raise DataError(f"a picture of {pages} pages; save each as a file, or the stack as NIfTI")
    if image.format == "JPEG" and path.read_bytes().count(SCAN) > MOST_SCANS:
        raise DataError(f"a JPEG of more than {MOST_SCANS} scans; {SAVE_AS}")
    turned = image.getexif().get(ORIENTATION, 1)
    if turned not in (0, 1):
        raise DataError(f"its Exif data turn it (Orientation {turned}); save it upright, as a grey PNG")
    if image.mode not in DEEP_MODES + GREY_MODES:
        raise DataError(f"a picture of {image.mode} values; {SAVE_AS}")
    is_tiff = image.format == "TIFF"
    if is_tiff and image.mode in DEEP_MODES and image.tag_v2.get(PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        raise DataError(f"a TIFF of 16 bits whose least value is white; {SAVE_AS} whose least value is black")


def _count_pages(image: Image.Image) -> int:
    """Count the pages, at most :data:`MOST_PAGES`: thousands take minutes, since each is decoded."""
    pages = 1
    with suppress(EOFError):
        while pages < MOST_PAGES:
            image.seek(pages)
            pages += 1
    image.seek(0)
    return pages


def _read_grey(image: Image.Image) -> NDArray[Any]:
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"values from {values.min()} to {values.max()} do not fit 16 bits; {SAVE_AS}")
        return values.astype(np.uint16)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    # A part at a time: four colours in 16 bits take eight times the picture.
    step = max(1, PIXELS_AT_A_TIME // image.width)
    for top in range(0, image.height, step):
        part = image.crop((0, top, image.width, min(top + step, image.height)))
        colours = np.asarray(part.convert("RGBA")).astype(np.int16)
        if colours[..., 3].min() < 255:
            raise DataError(f"a picture that is transparent in part; {SAVE_AS}")
        if np.ptp(colours[..., :3], axis=2).max() > MAX_CHANNEL_DIFFERENCE:
            raise DataError(f"a picture in colour; {SAVE_AS}")
    return np.asarray(image.convert("L"))
