"""Transforms of nested classes in Clara 3's form: TLT 2's meaning, fields called as Clara 3 calls them."""

from __future__ import annotations

from voxflow.components.registry import register
from voxflow.components.transforms.base import FieldNames  # noqa: TC001 (pydantic reads annotations at run time)
from voxflow.components.transforms.brats import BratsConvertLabels
from voxflow.components.transforms.postprocessing import SplitAcrossChannels, ThresholdValues


@register("transform", name="BratsConvertLabels")
class NestedLabels(BratsConvertLabels):
    """BraTS label values as one mask for each of the nested classes."""


@register("transform", name="ThresholdValues")
class ThresholdedFields(ThresholdValues):
    """1 where the value is above ``threshold``, else 0."""

    fields: FieldNames


@register("transform", name="SplitAcrossChannels")
class SplitField(SplitAcrossChannels):
    """Each channel of ``field`` as a field of its own."""

    field: str
