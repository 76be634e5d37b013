"""The boxes that hold the voxels of each label value, so that work on one class does not pass over the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Box = tuple[slice, slice, slice]


class LabelBoxes:
    """The boxes of all label values of a mask, found in one pass.

    Args:
        labels: label values, three axes.
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        from scipy.ndimage import find_objects

        self._labels = labels
        self._boxes: list[Box | None] = find_objects(labels.astype(np.int32, copy=False))

    def cut(self, values: Sequence[int]) -> tuple[NDArray[np.bool_], Box]:
        """Find where some label values are.

        Args:
            values: label values from 1.

        Returns:
            A mask of the smallest box that holds all of them, and that box; an empty one where they are nowhere.

        Example:
            >>> labels = np.zeros((5, 4, 3), np.uint8)
            >>> labels[2:4, 1, 2] = 7
            >>> inside, box = LabelBoxes(labels).cut([7, 9])
            >>> inside.shape, [(part.start, part.stop) for part in box]
            ((2, 1, 1), [(2, 4), (1, 2), (2, 3)])
        """
        boxes = [self._boxes[value - 1] for value in values if value <= len(self._boxes)]
        own = [box for box in boxes if box is not None]
        if not own:
            return np.zeros((0, 0, 0), np.bool_), (slice(0, 0), slice(0, 0), slice(0, 0))
        i, j, k = (slice(min(box[n].start for box in own), max(box[n].stop for box in own)) for n in range(3))
        return np.isin(self._labels[i, j, k], values), (i, j, k)
