"""TLT 2's transforms that resize, flip, rotate and zoom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from voxflow.components.registry import register
from voxflow.components.tlt.loading import DataFormat  # noqa: TC001 (pydantic reads annotations at run time)
from voxflow.components.transforms.base import Draw, FieldNames, Sample  # noqa: TC001 (pydantic reads annotations at run time)
from voxflow.components.transforms.spatial import (
    RandomAxisFlip,
    RandomRotate2D,
    RandomRotate3D,
    RandomZoom,
    ScaleToShape,
)

if TYPE_CHECKING:
    from typing import Any


def _axes(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


@register("transform", dialect="tlt2")
class NPResizeImage(ScaleToShape):
    """Resize a radiograph to ``output_shape`` (rows, columns).

    Attributes:
        data_format: accepted; arrays here have their channels first.
    """

    fields: FieldNames = Field(alias="applied_keys")
    target_shape: tuple[PositiveInt, ...] = Field(alias="output_shape", min_length=2, max_length=2)
    data_format: DataFormat = "channels_first"


@register("transform", dialect="tlt2")
class NP2DRotate(RandomRotate2D):
    """Rotate a radiograph by ``angle`` degrees or, with ``random``, by an angle drawn from [-angle, angle].

    Attributes:
        data_format: accepted; arrays here have their channels first.
    """

    fields: FieldNames = Field(alias="applied_keys")
    is_drawn: bool = Field(default=False, alias="random")
    data_format: DataFormat = "channels_first"


@register("transform", dialect="tlt2")
class NPRandomFlip3D(RandomAxisFlip):
    """With ``probability``, flip along one spatial axis, chosen evenly."""

    fields: FieldNames = Field(alias="applied_keys")


@register("transform", dialect="tlt2", name="NPRandomRot90_XY")
class NPRandomRot90XY(RandomRotate3D):
    """With ``probability``, turn by 90, 180 or 270 degrees in the plane of the first two spatial axes."""

    fields: FieldNames = Field(alias="applied_keys")


@register("transform", dialect="tlt2")
class NPRandomZoom3D(RandomZoom):
    """Magnify by a factor drawn for each axis between its limits.

    Attributes:
        data_format: accepted; arrays here have their channels first.
        use_gpu: accepted; where patches are magnified is said by ``augment_on`` of the key ``train`` in params.yaml.
        keep_size: the shape stays; else, as by default, it grows and shrinks with the factor.
    """

    fields: FieldNames = Field(alias="applied_keys")
    lower_limits: tuple[PositiveFloat, ...] | PositiveFloat
    upper_limits: tuple[PositiveFloat, ...] | PositiveFloat
    keep_size: bool = False
    data_format: DataFormat = "channels_first"
    use_gpu: bool = False

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose each axis's factor on its own.

        Returns:
            "factors": one a spatial axis.
        """
        low, high = np.asarray(self.lower_limits, float), np.asarray(self.upper_limits, float)
        return {"factors": rng.uniform(low, high, len(self.shape_of(sample)))}


@register("transform", dialect="tlt2")
class FlipAxisRandom(RandomAxisFlip):
    """Flip along each of the named spatial axes, each with an even chance.

    Attributes:
        axis: spatial axes, 0 for i.
    """

    axis: Annotated[
        tuple[Annotated[int, Field(ge=0, le=2)], ...], BeforeValidator(_axes), Field(min_length=1, max_length=3)
    ] = (0, 1, 2)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the axes to flip.

        Returns:
            "axes": spatial axes, from 0; {} where none is flipped.

        Raises:
            ValueError: ``axis`` names one that the image does not have.
        """
        if max(self.axis) >= len(self.shape_of(sample)):
            raise ValueError(f"axis {max(self.axis)}: the image has {len(self.shape_of(sample))} spatial axes, 0 first")
        axes = tuple(axis for axis in self.axis if rng.random() < 0.5)
        return {"axes": axes} if axes else {}
