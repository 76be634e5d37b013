"""The windows of intensities by which each modality is looked at: CT in HU, PET in SUV, MR by its own percentiles.

A CT has one scale, so its windows are fixed. A PET has one if it is in SUV. The numbers of MR mean nothing by
themselves, so its windows are percentiles of the image at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

AIR_HU = -500  # values so low are in the air around a patient, and in no MR or PET
LARGEST_SUV = 300  # larger numbers are an activity (Bq/ml)
SUV, HOUNSFIELD = "SUV", "HU"
# Median HU of a labelled region below which, or above which, it is looked at as lung or as bone.
LUNG_HU, BONE_HU = -400, 250
SOFT_TISSUE, LUNG, BONE = 0, 1, 2  # places in CT_WINDOWS


@dataclass(frozen=True)
class Window:
    """Intensities from black to white.

    Attributes:
        name: as a viewer's button says it.
        low, high: shown as black and as white; low < high.
        is_inverted: high values are dark, as PET is read.
    """

    name: str
    low: float
    high: float
    is_inverted: bool = False


CT_WINDOWS = (
    Window("Abdomen", -160, 240),
    Window("Lung", -1350, 150),
    Window("Bone", -500, 1300),
    Window("Brain", 0, 80),
    Window("Mediastinum", -125, 225),
)
SUV_WINDOWS = (
    Window("SUV 0 to 10", 0, 10, is_inverted=True),
    Window("SUV 0 to 5", 0, 5, is_inverted=True),
    Window("SUV 0 to 20", 0, 20, is_inverted=True),
)
PERCENTILES = ((0.5, 99.5), (0.1, 99.9), (5, 95))


def name_unit(array: NDArray[Any], modality: str, units: str = "") -> str:
    """Name the unit of an image's intensities: "HU", "SUV", or what the table of cases says; empty where unknown.

    Args:
        array: intensities, of any shape.
        modality: DICOM's, such as "CT"; empty where it is not known: values as low as those of air are taken for CT.
        units: as cases.csv has them.
    """
    if modality == "CT" or (not modality and _looks_like_ct(array)):
        return HOUNSFIELD
    if modality == "PT" and (units.startswith(SUV) or (not units and _thin(array).max() <= LARGEST_SUV)):
        return SUV
    return units


def list_windows(array: NDArray[Any], unit: str) -> tuple[Window, ...]:
    """List the windows of an image, the usual one first.

    Args:
        array: intensities, of any shape.
        unit: of :func:`name_unit`.

    Example:
        >>> [window.name for window in list_windows(np.zeros((2, 2, 2)), "HU")][:3]
        ['Abdomen', 'Lung', 'Bone']
        >>> list_windows(np.arange(1000.0).reshape(10, 10, 10), "")[0]
        Window(name='0.5 to 99.5 %', low=4.995, high=994.005, is_inverted=False)
    """
    if unit == HOUNSFIELD:
        return CT_WINDOWS
    if unit == SUV:
        return SUV_WINDOWS
    values = _thin(array)
    shares = [np.percentile(values, pair) for pair in PERCENTILES]
    return tuple(
        Window(f"{low:g} to {high:g} %", *_widen(float(bounds[0]), float(bounds[1])))
        for (low, high), bounds in zip(PERCENTILES, shares, strict=True)
    )


def choose_window(array: NDArray[Any], modality: str, mask: NDArray[Any] | None = None) -> Window:
    """Choose the window that a picture is drawn in.

    Args:
        array: intensities (i, j, k).
        modality: DICOM's; empty where it is not known.
        mask: label values (i, j, k); a CT is windowed for lung or bone where most of what is labelled is that.
    """
    unit = name_unit(array, modality)
    windows = list_windows(array, unit)
    if unit == HOUNSFIELD and mask is not None and mask.any():
        return windows[find_ct_window(array[mask > 0])]
    return windows[0]


def find_ct_window(values: NDArray[Any]) -> int:
    """Find the place in :data:`CT_WINDOWS` of the one that suits tissue of these Hounsfield units."""
    typical = float(np.median(values))
    return LUNG if typical < LUNG_HU else BONE if typical > BONE_HU else SOFT_TISSUE


def compute_grey_window(image: NDArray[Any]) -> tuple[float, float]:
    """Find the intensities shown as black and white: what all but the darkest and brightest half percent have.

    Args:
        image: of any shape; of a long axis every n-th value is looked at, some 128 of them.

    Returns:
        The lower and the upper intensity; they differ, also in an image of one value.
    """
    low, high = np.percentile(_thin(image), (0.5, 99.5))
    return _widen(float(low), float(high))


def _looks_like_ct(array: NDArray[Any]) -> bool:
    values = _thin(array)
    return bool(-5000 < values.min() <= AIR_HU and values.max() < 40_000)


def _widen(low: float, high: float) -> tuple[float, float]:
    return low, high if high > low else low + 1


def _thin(image: NDArray[Any]) -> NDArray[Any]:
    return image[tuple(slice(None, None, max(1, n // 128)) for n in image.shape)]
