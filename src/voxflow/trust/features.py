"""Measures what an image is like, and tells where it is unlike those that a model's trust was calibrated with.

A bound of the Dice holds for cases like those of the calibration. So each case's image and mask are compared with the
range of these. Every feature is one more chance of a false alarm, and a new case lies outside the range of n others in
2 of n + 1 cases by chance; so it counts only from half of the range's width beyond it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.volumes import Volume

AXES = "ijk"
MOST_SAMPLES = 200_000
# Beyond the range by this share of its width.
MARGIN = 0.5
# Differences of less than this share mean nothing, however narrow the range is.
TOLERANCE = 0.1
# With fewer cases a range says nothing.
LEAST_CASES = 5
# Those that may be below 0, and are compared as they are; the others by their ratio.
SIGNED = ("percentile_1", "percentile_99")

Range = tuple[float, float]


def measure_images(volumes: Sequence[Volume], channels: Sequence[str] = ()) -> dict[str, float]:
    """Measure a case's images: spacing and extent in mm, 1st and 99th percentile and deviation of the values.

    Args:
        volumes: one a channel, finite.
        channels: their names; of several channels each feature ends in ":NAME".
    """
    features: dict[str, float] = {}
    for number, volume in enumerate(volumes):
        end = "" if len(volumes) == 1 else f":{channels[number] if number < len(channels) else number + 1}"
        sizes = zip(AXES, volume.geometry.spacing, volume.geometry.size, strict=True)
        for axis, spacing, size in sizes:
            features |= {f"spacing_{axis}_mm{end}": float(spacing), f"extent_{axis}_mm{end}": float(spacing * size)}
        features |= {f"{name}{end}": value for name, value in _measure_values(volume.array).items()}
    return features


def _measure_values(array: NDArray[Any]) -> dict[str, float]:
    values = array.ravel(order="K")
    # An odd step, so that it does not stay in one column of the image.
    sample = values[:: values.size // MOST_SAMPLES | 1].astype(np.float64)
    low, high = np.percentile(sample, (1, 99))
    return {"percentile_1": float(low), "percentile_99": float(high), "deviation": float(sample.std())}


def find_ranges(cases: Sequence[Mapping[str, float]]) -> dict[str, Range]:
    """Find the least and the greatest value of each feature that all cases have.

    Returns:
        Nothing where there are fewer than five cases.
    """
    if len(cases) < LEAST_CASES:
        return {}
    names = [name for name in cases[0] if all(math.isfinite(case.get(name, math.nan)) for case in cases)]
    return {name: (min(case[name] for case in cases), max(case[name] for case in cases)) for name in names}


def find_unusual(features: Mapping[str, float], ranges: Mapping[str, Range]) -> dict[str, str]:
    """Find the features of a case that lie far outside their range.

    Args:
        features: of the case.
        ranges: of :func:`find_ranges`.

    Returns:
        In words by the feature's name.

    Example:
        >>> ranges = {"spacing_k_mm": (2.0, 3.0), "spleen_ml": (100.0, 300.0)}
        >>> find_unusual({"spacing_k_mm": 3.1, "spleen_ml": 1000.0}, ranges)
        {'spleen_ml': 'spleen_ml is 1000, in the calibration 100 to 300'}
    """
    unusual = {}
    for name, limits in ranges.items():
        value = features.get(name, math.nan)
        if not math.isfinite(value) or _is_far(name, value, limits, ranges):
            unusual[name] = f"{name} is {value:.4g}, in the calibration {limits[0]:.4g} to {limits[1]:.4g}"
    return unusual


def _is_far(name: str, value: float, limits: Range, ranges: Mapping[str, Range]) -> bool:
    low, high = limits
    if name.partition(":")[0] in SIGNED:
        end = name.partition(":")[1] + name.partition(":")[2]
        lowest, highest = (ranges.get(f"{signed}{end}", limits)[n] for n, signed in enumerate(SIGNED))
        tolerance = TOLERANCE * (highest - lowest)
    elif low <= 0:
        # Of a class that not every case of the calibration had, only an excess can be told.
        margin = max(MARGIN * (high - low), TOLERANCE * high)
        return value > high + margin
    elif value <= 0:
        return True
    else:
        low, high, value = math.log(low), math.log(high), math.log(value)
        tolerance = math.log1p(TOLERANCE)
    margin = max(MARGIN * (high - low), tolerance)
    return value < low - margin or value > high + margin
