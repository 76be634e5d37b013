"""Laying slices of stored values into one volume of real ones, one by one as they are read.

The volume begins as int16, which most are, and is widened as soon as a slice needs it: so a series is held in memory
once, in the narrowest type that keeps every value.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DicomError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

# Far beyond what any modality states; 16 bits times this still fit into int32.
MAX_SLOPE, MAX_INTERCEPT = 1e4, 1e6
_SHORT = np.iinfo(np.int16)


class SliceStack:
    """A growing volume; one slice of stored values is held beside it.

    Attributes:
        values: (slices, rows, columns): int16 where all real values are whole numbers that fit, int32 where they
            are whole numbers, else float32. Complete once every slice has been added.

    Example:
        >>> stack = SliceStack(2)
        >>> stack.add(np.array([[0, 1000]], np.uint16), rescale=(1.0, -1024.0))
        >>> stack.add(np.array([[0, 1000]], np.uint16), rescale=(0.5, -1024.0))  # its own slope, as in PET
        >>> stack.values.tolist(), stack.values.dtype.name
        ([[[-1024.0, -24.0]], [[-1024.0, -524.0]]], 'float32')
    """

    def __init__(self, slices: int) -> None:
        self._slices = slices
        self._count = 0
        self.values: NDArray[Any] = np.empty((0, 0, 0), dtype=np.int16)

    def add(self, stored: NDArray[Any], rescale: tuple[float, float]) -> None:
        """Add the next slice.

        Args:
            stored: (rows, columns).
            rescale: slope and intercept; real = stored × slope + intercept.

        Raises:
            DicomError: numbers that no scanner writes; they would overflow, or leave nothing of the image.
        """
        slope, intercept = rescale
        if not (isfinite(slope) and 0 < abs(slope) <= MAX_SLOPE and abs(intercept) <= MAX_INTERCEPT):
            raise DicomError(f"slope {slope:g} and intercept {intercept:g} can't be right", where="(0028,1053)")
        is_whole = slope.is_integer() and intercept.is_integer() and stored.dtype.kind in "iu"
        if is_whole and stored.dtype.itemsize > 2 and _fits_long_only(stored, int(slope), int(intercept)):
            target = self._take_next_slice(stored.shape, np.int32)
            target[...] = stored.astype(np.int64) * int(slope) + int(intercept)
            return
        if not (is_whole and stored.dtype.itemsize <= 2):
            self._take_next_slice(stored.shape, np.float32)[...] = stored.astype(np.float64) * slope + intercept
            return
        # Of the slice alone: most series fit into 16 bits, and then nothing wider is ever allocated.
        extremes = [int(extreme) * int(slope) + int(intercept) for extreme in (stored.min(), stored.max())]
        if min(extremes) < _SHORT.min or max(extremes) > _SHORT.max:
            target = self._take_next_slice(stored.shape, np.int32)
            target[...] = stored.astype(np.int64) * int(slope) + int(intercept)
            return
        target = self._take_next_slice(stored.shape, np.int16)
        if target.dtype == np.int16:
            # Integers wrap, so that what fits in the end is right whatever happened on the way.
            np.copyto(target, stored, casting="unsafe")
            _rescale_in_place(target, int(slope), int(intercept))
        else:
            target[...] = stored.astype(np.int32) * int(slope) + int(intercept)

    def _take_next_slice(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Where the next slice goes, wide enough for a type and all that came before."""
        if self._count == 0:
            self.values = np.empty((self._slices, *shape), dtype=dtype)
        elif _WIDTH[np.dtype(dtype)] > _WIDTH[self.values.dtype]:
            self.values = self.values.astype(dtype)
        if shape != self.values.shape[1:]:
            raise DicomError(f"{shape} pixels in one slice, {self.values.shape[1:]} before", where="(0028,0010)")
        self._count += 1
        next_slice: NDArray[Any] = self.values[self._count - 1]
        return next_slice


def _fits_long_only(stored: NDArray[Any], slope: int, intercept: int) -> bool:
    """Whether int32 holds the real values, and float32 would lose their last digits."""
    largest = max(abs(int(extreme) * slope + intercept) for extreme in (stored.min(), stored.max()))
    return 2**24 < largest < 2**31


_WIDTH = {np.dtype(np.int16): 0, np.dtype(np.int32): 1, np.dtype(np.float32): 2}


def _rescale_in_place(values: NDArray[np.int16], slope: int, intercept: int) -> None:
    if slope != 1:
        values *= np.array(slope).astype(np.int16)
    if intercept:
        values += np.array(intercept).astype(np.int16)
