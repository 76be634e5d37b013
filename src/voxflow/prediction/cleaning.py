"""Cleans a predicted mask: removes small islands and fills holes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from voxflow.prediction.labels import select_values

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.volumes import Volume

ALL = "all"
# Voxels that touch by a face, an edge or a corner are one component.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


class CleaningOptions(BaseModel):
    """What is done to each class of a mask, on the image's own grid; nothing where nothing is said.

    Attributes:
        largest_component: classes of which only the largest connected component is kept; "all" names every class.
        least_component_ml: smaller components of any class become background.
        fill_holes: classes whose enclosed background is filled; "all" names every class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_component: tuple[str, ...] = ()
    least_component_ml: NonNegativeFloat = 0.0
    fill_holes: tuple[str, ...] = ()

    def find_unknown(self, names: Collection[str]) -> list[str]:
        """List the classes that the options name and the model does not have, sorted."""
        class_names = {ALL, *names}
        return sorted({*self.largest_component, *self.fill_holes} - class_names)

    @property
    def does_nothing(self) -> bool:
        """Whether a mask stays as it is."""
        return not (self.largest_component or self.least_component_ml or self.fill_holes)


def clean_mask(mask: Volume, classes: Mapping[str, Sequence[int]], options: CleaningOptions) -> None:
    """Tidy a mask in place, class by class.

    Args:
        mask: label values (i, j, k); changed in place.
        classes: the values of each class, in the order in which they are tidied; several where it is a region.
        options: what to do. Voxels that touch by a face, an edge or a corner are one component.

    Example:
        >>> import numpy as np
        >>> from voxflow.geometry import Geometry
        >>> from voxflow.volumes import Volume
        >>> labels = np.array([1, 0, 1, 1, 0, 1], dtype=np.uint8).reshape(6, 1, 1)
        >>> mask = Volume(labels, Geometry.from_parts((6, 1, 1), (1, 1, 1)))
        >>> clean_mask(mask, {"spleen": (1,)}, CleaningOptions(largest_component=("spleen",)))
        >>> mask.array.ravel()
        array([0, 0, 1, 1, 0, 0], dtype=uint8)
    """
    if options.does_nothing:
        return
    from scipy.ndimage import find_objects

    voxel_ml = math.prod(mask.geometry.spacing) / 1000
    boxes = find_objects(mask.array, max_label=max(value for values in classes.values() for value in values))
    for name, values in classes.items():
        box = _unite_boxes([box for value in values if (box := boxes[value - 1]) is not None])
        if box is None:
            continue
        part = mask.array[box]
        keys = {ALL, name}
        largest = bool(keys & set(options.largest_component))
        _drop_islands(part, values, largest=largest, least_voxels=options.least_component_ml / voxel_ml)
        if keys & set(options.fill_holes):
            _fill_holes(part, values)


def _unite_boxes(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    if not boxes:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _drop_islands(part: NDArray[Any], values: Sequence[int], *, largest: bool, least_voxels: float) -> None:
    from scipy.ndimage import label

    if not (largest or least_voxels):
        return
    components, count = label(select_values(part, values), _TOUCHING)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    stays = sizes >= max(least_voxels, 1)
    if largest and count:
        stays &= np.arange(count + 1) == int(sizes.argmax())
    stays[0] = True
    part[~stays[components]] = 0


def _fill_holes(part: NDArray[Any], values: Sequence[int]) -> None:
    from scipy.ndimage import binary_fill_holes

    filled = binary_fill_holes(select_values(part, values))
    part[filled & (part == 0)] = values[0]
