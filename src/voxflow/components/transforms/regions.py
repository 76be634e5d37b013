"""Labels as regions: one mask for each, of the values that it has in the label map; regions may overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import LABEL, FieldNames, FieldTransform, Sample
from voxflow.components.unlabelled import UNKNOWN, UNLABELLED_REGIONS
from voxflow.naming import name_classes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray


@register("transform")
class ConvertToRegions(FieldTransform):
    """Turn a label map into one mask for each region, in their order.

    Attributes:
        regions: label values of each region by its name.

    Example:
        >>> convert = ConvertToRegions(fields=("label",), regions={"organ": (1, 2), "tumour": (2,)})
        >>> convert.change(np.array([[0, 1, 2]])).tolist()
        [[0, 1, 1], [0, 0, 1]]
    """

    fields: FieldNames
    regions: dict[str, tuple[int, ...]] = Field(min_length=1)

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """One a region."""
        del channels
        return dict.fromkeys(self.fields, len(self.regions))

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """The regions as they are stated."""
        del values
        return self.regions if LABEL in self.fields else {}

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with masks, UNKNOWN in those of regions that were not labelled in the case."""
        converted = super().__call__(sample)
        for number, name in enumerate(name_classes(tuple(self.regions))):
            if name in sample.get(UNLABELLED_REGIONS, ()):
                for field in self.fields:
                    converted[field] = converted[field].astype(np.int8, copy=False)
                    converted[field][number] = UNKNOWN
        return converted

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn label values into masks.

        Args:
            array: (1, ...spatial) of label values.

        Returns:
            (region, ...spatial) uint8; int8 with UNKNOWN where the label is negative.

        Raises:
            ValueError: the label has several channels.
        """
        if len(array) != 1:
            raise ValueError(f"a label map has one channel, received {len(array)}")
        masks = np.concatenate([np.isin(array, values) for values in self.regions.values()]).astype(np.uint8)
        is_unknown = array[0] < 0
        if not is_unknown.any():
            return masks
        marked = masks.astype(np.int8)
        marked[:, is_unknown] = UNKNOWN
        return marked
