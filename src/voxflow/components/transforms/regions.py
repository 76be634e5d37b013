"""Labels as regions: one mask for each, of the values that it has in the label map; regions may overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import LABEL, Draw, FieldNames, FieldTransform, Sample, outline_fields
from voxflow.components.unlabelled import UNKNOWN, UNLABELLED_REGIONS
from voxflow.naming import name_classes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.transforms.tensors import TensorBatch


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
        return dict.fromkeys(self.fields, len(self.regions))

    def list_regions(self, values: Collection[int]) -> Mapping[str, tuple[int, ...]]:
        """The regions as they are stated."""
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

    def draw_all(self, sample: Sample, rng: np.random.Generator) -> list[Draw]:
        """Note the regions that were not labelled in the case, by number."""
        names = name_classes(tuple(self.regions))
        return [{"unlabelled": [names.index(name) for name in sample.get(UNLABELLED_REGIONS, ()) if name in names]}]

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Turn label values into masks; of a type with a sign, where UNKNOWN may be, int8."""
        import torch

        if len(tensor) != 1:
            raise ValueError(f"a label map has one channel, received {len(tensor)}")
        none = torch.zeros_like(tensor, dtype=torch.bool)
        masks = torch.cat([sum((tensor == value for value in values), none) for values in self.regions.values()])
        if not tensor.dtype.is_signed:
            return masks.to(torch.uint8)
        return masks.to(torch.int8).masked_fill_(tensor < 0, UNKNOWN)

    def apply_tensors(self, batch: TensorBatch, draws: Sequence[Draw]) -> TensorBatch:
        """Make masks of every item, UNKNOWN in those of regions that were not labelled in its case."""
        import torch

        from voxflow.components.transforms.tensors import gather_items

        fields = {}
        for name in self.fields:
            items = []
            for item, parameters in zip(batch.gather(name), draws, strict=True):
                masks = self.change_tensor(item)
                for number in parameters["unlabelled"]:
                    masks = masks.to(torch.int8)
                    masks[number] = UNKNOWN
                items.append(masks)
            fields[name] = gather_items(items, batch.device)
        return batch.replace(fields)

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have one channel a region."""
        return outline_fields(sample, self.fields, channels=len(self.regions))
