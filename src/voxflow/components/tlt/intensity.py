"""TLT 2's transforms of intensities, which take one ``field`` where Clara's take several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat

from voxflow.components.registry import register
from voxflow.components.transforms.base import Draw, FieldNames, Probability, RandomFieldTransform, Sample, get_field
from voxflow.components.transforms.intensity import (
    AddGaussianNoise,
    CenterData,
    NormalizeNonzeroIntensities,
    ScaleIntensityOscillation,
    ScaleShiftIntensity,
)
from voxflow.components.transforms.tensors import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

register("transform", dialect="tlt2")(NormalizeNonzeroIntensities)


@register("transform", dialect="tlt2", name="CenterData")
class TltCenterData(CenterData):
    """Subtract, then divide; left out they are the mean and standard deviation of the whole array."""

    by_channel: ClassVar[bool] = False

    fields: FieldNames = Field(alias="applied_keys")


@register("transform", dialect="tlt2", name="ScaleIntensityOscillation")
class TltIntensityOscillation(ScaleIntensityOscillation):
    """Multiply by a factor drawn from [1 - magnitude, 1 + magnitude]."""

    fields: FieldNames = Field(alias="field")
    magnitude: PositiveFloat


@register("transform", dialect="tlt2", name="ScaleIntensityRange")
class TltIntensityShift(RandomFieldTransform):
    """Add a value drawn from [-magnitude, magnitude]; Clara's transform of the same name maps a range instead."""

    fields: FieldNames = Field(alias="field")
    magnitude: PositiveFloat

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the shift."""
        return {"shift": rng.uniform(-self.magnitude, self.magnitude)}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Return float32 of the same shape."""
        return np.asarray(array + np.float32(parameters["shift"]), dtype=np.float32)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Add each item's shift."""
        return tensors.float() + spread([parameters["shift"] for parameters in draws], tensors)


@register("transform", dialect="tlt2", name="AddGaussianNoise")
class TltGaussianNoise(AddGaussianNoise):
    """Add noise of mean 0 and a variance drawn from [0, 0.1]."""

    fields: FieldNames = Field(alias="field")
    probability: Probability = 1.0


@register("transform", dialect="tlt2")
class AugmentIntensityRandomScaleShift(ScaleShiftIntensity):
    """Multiply every channel by 0.9 to 1.1, and shift it by up to a tenth of its standard deviation."""


@register("transform", dialect="tlt2")
class AdjustContrast(RandomFieldTransform):
    """Stretch or press every channel about its mean, within the range of values that it has.

    The factor is drawn from [0.75, 1] or [1, 1.25], both equally likely.
    """

    LOWEST: ClassVar[float] = 0.75
    HIGHEST: ClassVar[float] = 1.25

    fields: FieldNames = Field(alias="field")

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose a factor for each channel, less or more contrast with an even chance.

        Returns:
            "factors": (channel,), from 0.75 to 1.25.
        """
        channels = len(get_field(sample, self.fields[0], self))
        less = rng.random(channels) < 0.5
        lower, higher = rng.uniform(self.LOWEST, 1, channels), rng.uniform(1, self.HIGHEST, channels)
        return {"factors": np.where(less, lower, higher)}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Stretch every channel about its mean.

        Args:
            array: (channel, ...spatial).
            parameters: "factors": (channel,).

        Returns:
            float32 of the same shape, within the values that each channel had.
        """
        axes = tuple(range(1, array.ndim))
        mean = array.mean(axes, keepdims=True, dtype=np.float64)
        factors = np.asarray(parameters["factors"]).reshape(-1, *(1,) * len(axes))
        low, high = array.min(axes, keepdims=True), array.max(axes, keepdims=True)
        return np.asarray(np.clip((array - mean) * factors + mean, low, high), dtype=np.float32)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Stretch every channel of every item about its mean."""
        import torch

        axes = tuple(range(2, tensors.ndim))
        values = tensors.float()
        mean = values.mean(axes, keepdim=True, dtype=torch.float64).float()
        stretched = (values - mean) * spread([parameters["factors"] for parameters in draws], tensors) + mean
        low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
        return stretched.clamp(low, high)
