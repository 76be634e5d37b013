"""Windows: which part of a radiograph's values is spread over the whole range of grey, where one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

Window = Literal["stated"] | tuple[float, float]
WINDOW = "(0028,1050)"


def apply_window(stored: NDArray[Any], dataset: Dataset, window: Window) -> NDArray[np.float64]:
    """Compute the grey of each pixel, from 0 to 1, before any inversion (PS3.3 C.11.2).

    Args:
        stored: the stored values.
        dataset: of one frame.
        window: centre and width in the values after the modality's LUT or rescale; or "stated", which takes the VOI LUT
            (0028,3010), else the first of WindowCenter (0028,1050) and WindowWidth (0028,1051) with its function.

    Raises:
        DicomError: a window that can't be, or none where the object was to state one.

    Example:
        >>> from pydicom import Dataset
        >>> stored = np.array([[0, 1000, 1200, 2000]], dtype=np.int16)
        >>> apply_window(stored, Dataset(), (1000, 801)).round(3).tolist()
        [[0.0, 0.501, 0.751, 1.0]]
    """
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if window != "stated":
        return _apply_voi_function(values, *window, "LINEAR")
    if dataset.get("VOILUTSequence"):
        return _apply_voi_lut(values, dataset)
    centre, width = _read_first_number(dataset.get("WindowCenter")), _read_first_number(dataset.get("WindowWidth"))
    if centre is None or width is None:
        raise DicomError("a window is asked for, and the radiograph states none", where=WINDOW)
    return _apply_voi_function(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))


def _apply_voi_function(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, with grey from 0 to 1."""
    # LINEAR divides by width - 1, so that its width is at least 1.
    least = 1 if function == "LINEAR" else 0
    if not (np.isfinite([centre, width]).all() and width > 0 and width >= least):
        raise DicomError(f"no window: centre {centre:g}, width {width:g}", where=WINDOW)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise DicomError(
            f"unknown function {function!r}, expected LINEAR, LINEAR_EXACT or SIGMOID", where="(0028,1056)"
        )
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _apply_voi_lut(values: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Grey by the first table; values beyond its ends take the first or the last entry.

    As pydicom's apply_voi, which counts the values in eight bits where the entries have eight.
    """
    table = dataset.VOILUTSequence[0]
    first, bits = int(table.LUTDescriptor[1]), int(table.LUTDescriptor[2])
    if not 8 <= bits <= 16:
        raise DicomError(f"a VOI LUT of {bits} bits; expected 8 to 16", where="(0028,3002)")
    entries = _read_lut_entries(table, dataset)
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)
    return np.asarray(entries[index] / (2**bits - 1))


def is_decreasing_lut(table: Dataset, dataset: Dataset) -> bool:
    """Whether a look-up table maps its first value to more than its last one; False for a table that is none."""
    try:
        entries = _read_lut_entries(table, dataset)
    except (DicomError, AttributeError, TypeError, ValueError):
        return False
    return bool(entries[0] > entries[-1])


def _read_lut_entries(table: Dataset, dataset: Dataset) -> NDArray[np.float64]:
    # PS3.3 C.11.2.1.1: a count of 0 means 65536, which 16 bits do not hold.
    count = int(table.LUTDescriptor[0]) or 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        words = "<u2" if dataset.original_encoding[1] else ">u2"
        entries = np.frombuffer(entries, np.uint8 if len(entries) < 2 * count else words)
    if len(entries) < count:
        raise DicomError(f"a VOI LUT of {count} entries holds {len(entries)}", where="(0028,3006)")
    return np.asarray(entries, dtype=np.float64)[:count]


def _read_first_number(value: Any) -> float | None:
    """The first of several windows; the others are the same picture seen in other ways."""
    several: Sequence[Any] = [value] if isinstance(value, str | int | float) else value or []
    return float(several[0]) if len(several) and several[0] != "" else None
