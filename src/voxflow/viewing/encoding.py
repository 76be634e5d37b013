"""Packs images and masks for a page: 8 bits a voxel, compressed, as text; within a bound on the number of voxels.

A CT has 4,000 different values, a page's grey 256. Where soft tissue lies the steps are 3 HU, in air and bone they are
wider, so that each of the usual windows still has all the greys that an eye can tell apart. A PET has its fine steps up
to SUV 10. Other images are spread evenly between their extreme percentiles. The browser gets the value of each step.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.geometry import Geometry
from voxflow.viewing.windows import HOUNSFIELD, SUV

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEPS = 256
# Value, and how many steps lie between it and the next one.
CT_KNOTS = ((-1024.0, 70), (-150.0, 134), (250.0, 48), (1600.0, 3))
SUV_KNOTS = ((0.0, 191), (10.0, 64))
MOST_VALUES = 250  # different label values of a mask that a page tells apart


def choose_steps(array: NDArray[Any], unit: str) -> NDArray[np.float64]:
    """Choose the values that the 256 greys of an image stand for, ascending.

    Args:
        array: finite intensities, of any shape.
        unit: "HU", "SUV", or any other.
    """
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iub" and high - low < STEPS:
        return low + np.arange(STEPS, dtype=np.float64)
    knots = {HOUNSFIELD: CT_KNOTS, SUV: SUV_KNOTS}.get(unit)
    if knots is None:
        inner = np.percentile(array, (0.05, 99.95))
        return np.concatenate([[low], np.linspace(float(inner[0]), float(inner[1]), STEPS - 2), [high]])
    values, counts = [value for value, _ in knots], [count for _, count in knots]
    ends = [*values[1:], max(high, values[-1] + 1)]
    values[0] = min(low, values[0]) if unit == SUV else values[0]
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(values, ends, counts, strict=True)]
    return np.concatenate([*parts, [ends[-1]]])


def quantise(array: NDArray[Any], steps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round intensities to the nearest step.

    Args:
        array: finite intensities, of any shape.
        steps: 256 values, ascending.

    Returns:
        The number of each voxel's step.

    Example:
        >>> quantise(np.array([-3.0, 4.4, 300.0]), np.arange(256.0)).tolist()
        [0, 4, 255]
    """
    middles = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    return np.searchsorted(middles, array.astype(np.float32, copy=False)).astype(np.uint8)


def number_values(mask: NDArray[Any]) -> tuple[NDArray[np.uint8], list[int]]:
    """Number the label values of a mask without gaps, so that each fits into 8 bits.

    Args:
        mask: label values, of any shape.

    Returns:
        The number of each voxel's value, and the values by number; number 0 is the background. Beyond 250 values, the
        rarest have the number of the last of them: its value is -1.

    Example:
        >>> numbers, values = number_values(np.array([0, 700, 3, 700]))
        >>> numbers.tolist(), values
        ([0, 2, 1, 2], [0, 3, 700])
    """
    unique_values, counts = np.unique(mask, return_counts=True)
    values = [int(value) for value in unique_values if value != 0]
    if len(values) > MOST_VALUES:
        frequent = {int(value) for value in unique_values[np.argsort(-counts, kind="stable")][:MOST_VALUES]}
        values = [value for value in values if value in frequent]
        values.append(-1)
    numbers = {value: number for number, value in enumerate(values, start=1)}
    fallback = numbers.get(-1, 0)
    table = np.array([0 if value == 0 else numbers.get(int(value), fallback) for value in unique_values], np.uint8)
    return table[np.searchsorted(unique_values, mask)], [0, *values]


def pack(array: NDArray[np.uint8]) -> str:
    """Compress voxels, i running fastest, as base64 text: each as the difference from the one before it.

    Args:
        array: (i, j, k).
    """
    flat = np.ascontiguousarray(array.transpose(2, 1, 0)).ravel()
    differences = np.diff(flat, prepend=np.uint8(0))  # modulo 256
    return base64.b64encode(zlib.compress(differences.tobytes(), 6)).decode()


def limit_grid(geometry: Geometry, most_voxels: int) -> Geometry:
    """Plan a coarser grid over the same box where a grid has more voxels than a page can hold.

    The finest axes get coarser first, so that voxels become more alike in length.

    Args:
        geometry: the grid.
        most_voxels: at least 1,000.

    Returns:
        The grid itself where it is small enough.

    Example:
        >>> limit_grid(Geometry.from_parts((100, 100, 10), (1, 1, 4)), 30_000).size
        (54, 54, 10)
    """
    if np.prod(geometry.size) <= most_voxels:
        return geometry
    extent, spacing = np.array(geometry.extent), np.array(geometry.spacing)
    low, high = float(spacing.min()), float(extent.max())
    for _ in range(60):
        middle = (low + high) / 2
        count = np.prod(np.maximum(1, np.floor(extent / np.maximum(spacing, middle) + 1e-6)))
        low, high = (middle, high) if count > most_voxels else (low, middle)
    size = np.maximum(1, np.floor(extent / np.maximum(spacing, high) + 1e-6)).astype(int)
    coarse = np.where(size == geometry.size, spacing, extent / size)
    first = geometry.to_physical(np.full(3, -0.5)) + geometry.direction @ (coarse / 2)
    return Geometry.from_parts(size.tolist(), coarse.tolist(), first.tolist(), geometry.direction)


def round_numbers(values: Sequence[float] | NDArray[np.float64], digits: int = 5) -> list[float]:
    """Round numbers to some significant digits, as a page writes them."""
    return [float(f"{value:.{digits}g}") for value in values]
