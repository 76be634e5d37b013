"""Labels as regions: one mask for each, of the values that it has in the label map; regions may overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import LABEL, FieldNames, FieldTransform

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

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn label values into masks.

        Args:
            array: (1, ...spatial) of label values.

        Returns:
            (region, ...spatial) uint8.

        Raises:
            ValueError: the label has several channels.
        """
        if len(array) != 1:
            raise ValueError(f"a label map has one channel, received {len(array)}")
        return np.concatenate([np.isin(array, values) for values in self.regions.values()]).astype(np.uint8)
