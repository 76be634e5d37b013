"""Transforms of a network's answer and of masks: largest channel, threshold, one mask a channel or value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import FieldNames, FieldTransform, Sample, Transform, get_field
from voxflow.components.transforms.grids import affine_key
from voxflow.components.unlabelled import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
    Field(min_length=1),
]


@register("transform")
class ArgmaxAcrossChannels(FieldTransform):
    """The index of the largest channel, as a mask of one channel."""

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """One."""
        return {name: 1 for name in self.fields if name in channels}

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the index of the largest channel.

        Args:
            array: (channel, ...spatial).

        Returns:
            (1, ...spatial) uint8.
        """
        return np.asarray(array.argmax(0)[None], np.uint8)


@register("transform", dialect="tlt2")
class ThresholdValues(FieldTransform):
    """1 where the value is above ``threshold``, else 0."""

    fields: FieldNames = Field(alias="applied_key")
    threshold: float

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return 1 where the value is above the threshold, else 0.

        Returns:
            uint8 of the same shape.
        """
        return (array > self.threshold).astype(np.uint8)


@register("transform")
class SplitBasedOnLabel(Transform):
    """One mask a label value, under its own name: the first name gets where the mask is 0, the second where it is 1...

    Attributes:
        field: a mask of one channel; one-hot masks are taken channel by channel.
        label_names: the new fields.
    """

    field: str
    label_names: Names

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with the new fields; voxels that nobody labelled are UNKNOWN in each.

        Raises:
            ValueError: only some classes were labelled; one mask can't say so.
        """
        mask = get_field(sample, self.field, self)
        if mask.dtype.kind == "i" and (lowest := mask.min(initial=0)) < 0:
            if lowest < UNKNOWN:
                raise ValueError("only some classes were labelled, which the masks of SplitBasedOnLabel can't say")
            wholes = mask if len(mask) > 1 else (mask == np.arange(len(self.label_names)).reshape(-1, 1, 1, 1))
            marked = np.where(mask < 0, UNKNOWN, wholes > 0).astype(np.int8)
            return _add_masks(sample, self.field, self.label_names, list(marked), keep_type=True)
        parts = mask > 0 if len(mask) > 1 else [mask[0] == value for value in range(len(self.label_names))]
        return _add_masks(sample, self.field, self.label_names, list(parts))


@register("transform", dialect="tlt2")
class SplitAcrossChannels(Transform):
    """Each channel as a field of its own.

    Attributes:
        channel_names: the new fields; the field's name and the channel's number from 0 when left out.
    """

    field: str = Field(alias="applied_key")
    channel_names: Names | None = None

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with the new fields."""
        array = get_field(sample, self.field, self)
        names = self.channel_names or tuple(f"{self.field}{channel}" for channel in range(len(array)))
        return _add_masks(sample, self.field, names, list(array), keep_type=True)


@register("transform")
class CopyProperties(Transform):
    """Let fields lie where another one lies.

    Attributes:
        from_field: the field that knows.
        properties: "affine"; more are not noted here.
    """

    fields: FieldNames
    from_field: str
    properties: Annotated[
        tuple[Literal["affine"], ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
    ] = ("affine",)

    def makes(self) -> tuple[str, ...]:
        """The affines."""
        return tuple(map(affine_key, self.fields))

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with the affines."""
        source = get_field(sample, self.from_field, self)
        affine = get_field(sample, affine_key(self.from_field), self)
        for name in self.fields:
            shape = get_field(sample, name, self).shape[1:]
            if shape != source.shape[1:]:
                raise ValueError(f"{name!r} has shape {shape}, {self.from_field!r} has {source.shape[1:]}")
        return sample | {affine_key(name): np.array(affine) for name in self.fields}


def _add_masks(
    sample: Sample, source: str, names: tuple[str, ...], parts: list[NDArray[Any]], *, keep_type: bool = False
) -> Sample:
    if len(parts) != len(names):
        raise ValueError(f"{len(names)} names {list(names)} for the {len(parts)} channels of {source!r}")
    affine = sample.get(affine_key(source))
    arrays = (part[None] if keep_type else part[None].astype(np.uint8) for part in parts)
    masks = dict(zip(names, arrays, strict=True))
    affines = {} if affine is None else {affine_key(name): np.array(affine) for name in names}
    return sample | masks | affines
