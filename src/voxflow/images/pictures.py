"""Reads pictures (PNG, JPEG, BMP, TIFF) that are radiographs, and refuses those whose grey values can't be trusted."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError

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
SAVE_AS = "save it as a grey PNG of 8 or 16 bits"


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a radiograph.

    Returns:
        Array of shape (rows, columns): uint8, or uint16 where more bits are stored. Three equal colours are one grey.

    Raises:
        DataError: no picture, cut off, of several pages, turned by its Exif data, in colour, transparent, or of values
            that are no whole numbers up to 65535.
    """
    from PIL import Image

    try:
        content = io.BytesIO(path.read_bytes())
        # Pillow decodes a PNG without a look at its checksums, but for this.
        Image.open(content).verify()
        content.seek(0)
        with Image.open(content) as image:
            _check_layout(image)
            return _read_grey(image)
    except FileNotFoundError as error:
        raise DataError("file not found", path=path) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"unreadable image: {error}", path=path) from error
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error) as error:
        raise DataError("unreadable image: damaged, cut off, or no picture", path=path) from error


def _check_layout(image: Image.Image) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise DataError(f"a picture of {pages} pages; save each as a file, or the stack as NIfTI")
    turned = image.getexif().get(ORIENTATION, 1)
    if turned not in (0, 1):
        raise DataError(f"its Exif data turn it (Orientation {turned}); save it upright, as a grey PNG")
    if image.mode not in DEEP_MODES + GREY_MODES:
        raise DataError(f"a picture of {image.mode} values; {SAVE_AS}")
    is_tiff = image.format == "TIFF"
    if is_tiff and image.mode in DEEP_MODES and image.tag_v2.get(PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        raise DataError(f"a TIFF of 16 bits whose least value is white; {SAVE_AS} whose least value is black")


def _read_grey(image: Image.Image) -> NDArray[Any]:
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"values from {values.min()} to {values.max()} do not fit 16 bits; {SAVE_AS}")
        return values.astype(np.uint16)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    colours = np.asarray(image.convert("RGBA")).astype(np.int16)
    if colours[..., 3].min() < 255:
        raise DataError(f"a picture that is transparent in part; {SAVE_AS}")
    if np.ptp(colours[..., :3], axis=2).max() > MAX_CHANNEL_DIFFERENCE:
        raise DataError(f"a picture in colour; {SAVE_AS}")
    return np.asarray(image.convert("L"))
