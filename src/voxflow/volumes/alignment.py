"""Brings labels and further channels onto the grid of their image: axes are reordered and flipped, nothing is blended.

Every way into the library compares grids here, so that the same pair of files is taken, or refused, everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError
from voxflow.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

SAME_AXES = ((0, 1, 2), (False, False, False))
# Labels that are stored as scaled integers or floats come back as 0.9999 or 1.0001.
LABEL_TOLERANCE = 1e-3
HIGHEST_LABEL = 65535
MOST_VALUES = 5  # that a message names


def align(volume: Volume, grid: Geometry, path: Path | None = None) -> Volume:
    """Bring a label or a channel onto its image's grid; its voxels must be the image's, in whatever order.

    Args:
        volume: the label or the channel.
        grid: the image's.
        path: the file that the volume comes from, for the message.

    Returns:
        The same values, on ``grid`` itself; where the axes are the same, the array is not copied.

    Raises:
        DataError: the voxels lie elsewhere.
    """
    axes = volume.geometry.find_axes(grid)
    if axes is None:
        raise DataError(describe_mismatch(volume.geometry, grid), path=path)
    if axes == SAME_AXES:
        return Volume(volume.array, grid)
    order, flips = axes
    array = volume.array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return Volume(np.asfortranarray(array), grid)


def describe_mismatch(received: Geometry, image: Geometry) -> str:
    """Say in one line how a label's or channel's grid differs from its image's, whose values come first."""
    sizes, spacings = (
        " and ".join(" × ".join(f"{value:.6g}" for value in values) for values in pair)
        for pair in ((image.size, received.size), (image.spacing, received.spacing))
    )
    # A tenth of a voxel can be told apart, and two digits at least.
    digits = max(2, 1 - math.floor(math.log10(min(image.spacing))))
    origins = " and ".join(" ".join(f"{mm:.{digits}f}" for mm in grid.origin) for grid in (image, received))
    return (
        f"its grid is not the image's, they lie on different grids: size {sizes}, spacing {spacings} mm, "
        f"origin {origins} mm, axes along {image.orientation} and {received.orientation}"
    )


def describe_turn(received: Geometry, image: Geometry) -> str:
    """Say how the axes of a label or channel run against its image's; empty where they are the same.

    The two must have the same voxels.
    """
    if received.find_axes(image) in (SAME_AXES, None):
        return ""
    return f"its axes run along {received.orientation}, the image's along {image.orientation}; turned to the image's"


def renumber_labels(array: NDArray[Any], numbers: Mapping[int, int]) -> NDArray[Any]:
    """Give label values other numbers.

    Args:
        array: values as uint8 or uint16, of any shape.
        numbers: the new number of each value; one without stays.

    Example:
        >>> renumber_labels(np.array([0, 1, 4], np.uint8), {4: 300})
        array([  0,   1, 300], dtype=uint16)
    """
    table = np.arange(max(int(array.max(initial=0)), *numbers, 0) + 1, dtype=np.int64)
    for value, number in numbers.items():
        table[value] = number
    return round_labels(table[array])


def round_labels(array: NDArray[Any], path: Path | None = None) -> NDArray[Any]:
    """Turn label values into whole numbers of the narrowest type, uint8 or uint16.

    Args:
        array: of any shape; values may be off a whole number by :data:`LABEL_TOLERANCE`.
        path: the file that they come from, for the message.

    Raises:
        DataError: a value is no whole number from 0 to 65535.
    """
    if array.dtype.kind == "f":
        values = np.rint(array)
        if not (np.abs(values - array) <= LABEL_TOLERANCE).all():
            wrong = np.unique(array)[:MOST_VALUES].tolist()
            message = f"label values are no whole numbers from 0: {wrong}"
            if holds_probabilities(array):
                message += (
                    "; a probability map, or a mask resampled by interpolation: convert.label_threshold: 0.5 takes "
                    "voxels from 0.5 on as the class, or save it as 0 and 1"
                )
            raise DataError(message, path=path)
    else:
        values = array
    least, most = (values.min(), values.max()) if values.size else (0, 0)
    if least < 0 or most > HIGHEST_LABEL:
        raise DataError(f"label values lie between {least} and {most}, expected 0 to {HIGHEST_LABEL}", path=path)
    return np.asarray(values.astype(np.uint8 if most < 256 else np.uint16, copy=False))


def holds_probabilities(array: NDArray[Any]) -> bool:
    """Whether an array has values from 0 to 1 that are neither, as a probability map and no label has.

    Example:
        >>> holds_probabilities(np.array([0.0, 0.4, 1.0])), holds_probabilities(np.array([0.0, 1.0]))
        (True, False)
    """
    if array.dtype.kind != "f" or not array.size:
        return False
    lies_within = bool(((array >= -LABEL_TOLERANCE) & (array <= 1 + LABEL_TOLERANCE)).all())
    return lies_within and bool((np.abs(np.rint(array) - array) > LABEL_TOLERANCE).any())
