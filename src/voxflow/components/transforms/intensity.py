"""Transforms that change intensities and leave the grid alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    Draw,
    FieldTransform,
    Probability,
    RandomFieldTransform,
    Sample,
    get_field,
)
from voxflow.components.transforms.tensors import spread, upload
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

PerChannel = Annotated[
    tuple[float, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,)),
    Field(min_length=1),
]


@register("transform")
class ScaleIntensityRange(FieldTransform):
    """Map the interval [a_min, a_max] linearly onto [b_min, b_max].

    Attributes:
        clip: cut what lies outside.
        a_offset: added to the values before they are mapped.

    Example:
        >>> window = ScaleIntensityRange(fields=("image",), a_min=-150, a_max=250, b_min=0, b_max=1, clip=True)
        >>> window({"image": np.array([[[-1000.0, 50.0, 250.0]]])})["image"]  # Hounsfield units
        array([[[0. , 0.5, 1. ]]], dtype=float32)
    """

    sets_intensities: ClassVar[bool] = True

    a_offset: float = 0.0
    a_min: float
    a_max: float
    b_min: float
    b_max: float
    clip: bool = False

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        if self.a_min == self.a_max:
            raise ValueError(f"a_min and a_max must differ, both are {self.a_min}")
        return self

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Map one array's values.

        Args:
            array: (channel, ...spatial), in the unit of ``a_min`` and ``a_max``, such as Hounsfield units.

        Returns:
            float32 of the same shape.
        """
        gain = (self.b_max - self.b_min) / (self.a_max - self.a_min)
        # In place: of a CT every copy takes a gigabyte.
        scaled = array.astype(np.float32)
        scaled -= np.float32(self.a_min - self.a_offset)
        scaled *= np.float32(gain)
        scaled += np.float32(self.b_min)
        if self.clip:
            np.clip(scaled, *sorted((self.b_min, self.b_max)), out=scaled)
        return scaled

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`change` does to a tensor of any device."""
        # Single numbers of float32, as NumPy takes them.
        offset, gain = np.float32(self.a_min - self.a_offset), (self.b_max - self.b_min) / (self.a_max - self.a_min)
        scaled = tensor.float() - float(offset)
        scaled = scaled.mul_(float(np.float32(gain))).add_(float(np.float32(self.b_min)))
        return scaled.clamp_(*sorted((self.b_min, self.b_max))) if self.clip else scaled


@register("transform")
class CenterData(FieldTransform):
    """Subtract, then divide, by channel; left out they are the channel's own mean and standard deviation."""

    by_channel: ClassVar[bool] = True
    sets_intensities: ClassVar[bool] = True

    subtrahend: PerChannel | None = None
    divisor: PerChannel | None = None

    @model_validator(mode="after")
    def _check_divisor(self) -> Self:
        if self.divisor is not None and 0 in self.divisor:
            raise ValueError("divisor must not be 0")
        return self

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Subtract, then divide.

        Args:
            array: (channel, ...spatial); a channel that is the same everywhere is divided by 1.

        Returns:
            float32 of the same shape.
        """
        axes = tuple(range(1, array.ndim)) if self.by_channel else None
        # float64: a sum over the 10^8 voxels of a CT loses digits in float32.
        mean = array.mean(axes, dtype=np.float64) if self.subtrahend is None else np.asarray(self.subtrahend)
        deviation = array.std(axes, dtype=np.float64) if self.divisor is None else np.asarray(self.divisor)
        # A channel that is the same everywhere becomes 0, not NaN.
        deviation = np.where(deviation == 0, 1, deviation)
        shape = (-1,) + (1,) * (array.ndim - 1)
        centred = (array - mean.reshape(shape)) / deviation.reshape(shape)
        return np.asarray(centred, dtype=np.float32)

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`change` does to a tensor of any device, a channel at a time."""
        import torch

        whole = tensor.double() if not self.by_channel else None
        centred = []
        for number, channel in enumerate(tensor):
            values = channel.double()
            measured = values if whole is None else whole
            mean = measured.mean() if self.subtrahend is None else self.subtrahend[number % len(self.subtrahend)]
            if self.divisor is not None:
                centred.append(((values - mean) / self.divisor[number % len(self.divisor)]).float())
                continue
            deviation = measured.std(correction=0)
            # Without a look at the value, for which a GPU would be waited for.
            centred.append(((values - mean) / torch.where(deviation == 0, 1.0, deviation)).float())
        return torch.stack(centred)


@register("transform")
class NormalizeNonzeroIntensities(FieldTransform):
    """By channel, bring the voxels that are not 0 to mean 0 and standard deviation 1; zeros stay 0."""

    sets_intensities: ClassVar[bool] = True

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring each channel's values that are not 0 to mean 0 and standard deviation 1.

        Args:
            array: (channel, ...spatial).

        Returns:
            float32 of the same shape; zeros, the background of a skull-stripped brain, stay 0.
        """
        normal = np.zeros(array.shape, dtype=np.float32)
        for channel, out in zip(array, normal, strict=True):
            inside = channel != 0
            values = channel[inside].astype(np.float64)
            if values.size:
                out[inside] = (values - values.mean()) / (values.std() or 1.0)
        return normal

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`change` does to a tensor of any device."""
        import torch

        normal = torch.empty_like(tensor, dtype=torch.float32)
        for channel, out in zip(tensor, normal, strict=True):
            # Nothing is asked of a value here, so that a GPU need not be waited for.
            inside, values = channel != 0, channel.double()
            count = inside.sum().clamp(min=1)
            values = (values - values.sum() / count).mul_(inside)
            deviation = torch.linalg.vector_norm(values) / count.sqrt()
            out.copy_(values.div_(torch.where(deviation == 0, 1.0, deviation)))
        return normal


@register("transform")
class NormalizeChannels(FieldTransform):
    """Bring each channel to mean 0 and standard deviation 1: by numbers of the data set, or by the image's own.

    Attributes:
        channels: of each channel, the lowest and the highest value, to which it is cut, and the mean and the standard
            deviation of all images; None: as :class:`NormalizeNonzeroIntensities` does it.

    Example:
        >>> scale = NormalizeChannels(fields=("image",), channels=((-100, 300, 50, 25), None))  # a CT and an MR
        >>> scale({"image": np.array([[[-1000.0, 50.0, 75.0]], [[0.0, 10.0, 20.0]]])})["image"].tolist()
        [[[-6.0, 0.0, 1.0]], [[0.0, -1.0, 1.0]]]
    """

    sets_intensities: ClassVar[bool] = True

    channels: tuple[tuple[float, float, float, PositiveFloat] | None, ...] = Field(min_length=1)

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Scale each channel.

        Args:
            array: (channel, ...spatial), as many channels as the attribute has.

        Returns:
            float32 of the same shape.

        Raises:
            DataError: the image has another number of channels.
        """
        if len(array) != len(self.channels):
            raise DataError(f"NormalizeChannels states {len(self.channels)} channels, the image has {len(array)}")
        normal = np.empty(array.shape, dtype=np.float32)
        nonzero = NormalizeNonzeroIntensities(fields=self.fields)
        for channel, out, numbers in zip(array, normal, self.channels, strict=True):
            if numbers is None:
                out[...] = nonzero.change(channel[None])[0]
            else:
                low, high, mean, deviation = numbers
                out[...] = (np.clip(channel, low, high) - np.float32(mean)) / np.float32(deviation)
        return normal


@register("transform")
class ScaleIntensityOscillation(RandomFieldTransform):
    """With ``probability``, multiply by a factor drawn from [1 - magnitude, 1 + magnitude]."""

    magnitude: NonNegativeFloat
    probability: Probability = 1.0

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the factor.

        Returns:
            "factor"; {} with probability 1 - ``probability``.
        """
        if rng.random() >= self.probability:
            return {}
        return {"factor": rng.uniform(1 - self.magnitude, 1 + self.magnitude)}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Return float32 of the same shape."""
        return np.asarray(array * np.float32(parameters["factor"]), dtype=np.float32)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Multiply each item by its factor."""
        return tensors.float() * spread([parameters["factor"] for parameters in draws], tensors)


@register("transform")
class AddGaussianNoise(RandomFieldTransform):
    """With ``probability``, add noise of mean 0.

    Attributes:
        variance: the largest; the noise's own is drawn from [0, variance].
        magnitude: the largest standard deviation instead; the noise's own is drawn from [0, magnitude].
    """

    variance: NonNegativeFloat = 0.1
    magnitude: NonNegativeFloat | None = None
    probability: Probability = 0.5

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the strength and the seed of the noise.

        Returns:
            "deviation": standard deviation in the image's own unit, and "seed": the noise itself is not kept in the
            draw.
        """
        if rng.random() >= self.probability:
            return {}
        if self.magnitude is None:
            deviation = float(np.sqrt(rng.uniform(0, self.variance)))
        else:
            deviation = rng.uniform(0, self.magnitude)
        # The seed alone is the draw: the noise of a CT would take as much memory as the CT.
        return {"deviation": deviation, "seed": int(rng.integers(2**32))}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Add noise to one array.

        Every field gets the same noise where shapes agree, since all share the draw's seed.

        Returns:
            float32 of the same shape.
        """
        noise = np.random.default_rng(parameters["seed"]).standard_normal(array.shape, dtype=np.float32)
        return np.asarray(array + noise * np.float32(parameters["deviation"]), dtype=np.float32)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Add to each item the noise of its seed.

        NumPy makes the values here, too, in the thread that prepares the batch: no generator of a device gives the same
        ones, and 96³ voxels take 5 ms.
        """
        noise = np.empty(tensors.shape, dtype=np.float32)
        for out, parameters in zip(noise, draws, strict=True):
            np.random.default_rng(parameters["seed"]).standard_normal(out=out, dtype=np.float32)
        deviations = spread([parameters["deviation"] for parameters in draws], tensors)
        return tensors.float() + upload(noise, tensors.device) * deviations


@register("transform")
class ScaleShiftIntensity(RandomFieldTransform):
    """Multiply and shift every channel on its own.

    Attributes:
        scale: the factor is drawn from [1 - scale, 1 + scale].
        shift: what is added is drawn from [-shift, shift] standard deviations of the channel's values that are not 0.
    """

    scale: NonNegativeFloat = 0.1
    shift: NonNegativeFloat = 0.1

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose a factor and a shift for each channel.

        Returns:
            "factors" and "shifts", (channel,) each; a shift counts in standard deviations of the channel.
        """
        channels = len(get_field(sample, self.fields[0], self))
        return {
            "factors": rng.uniform(1 - self.scale, 1 + self.scale, channels),
            "shifts": rng.uniform(-self.shift, self.shift, channels),
        }

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Multiply and shift every channel.

        Args:
            array: (channel, ...spatial).
            parameters: "factors" and "shifts", (channel,) each.

        Returns:
            float32 of the same shape.
        """
        pairs = zip(array, parameters["factors"], parameters["shifts"], strict=True)
        channels = [c * np.float32(factor) + np.float32(shift * _spread(c)) for c, factor, shift in pairs]
        return np.stack(channels).astype(np.float32)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Multiply and shift every channel of every item."""
        import torch

        axes = tuple(range(2, tensors.ndim))
        values, is_inside = tensors.float(), tensors != 0
        count = is_inside.sum(axes, keepdim=True).clamp(min=1)
        # Summed in double precision, of values that take half the memory.
        mean = values.sum(axes, keepdim=True, dtype=torch.float64) / count
        squares = ((values - mean.float()) * is_inside).square_()
        deviation = (squares.sum(axes, keepdim=True, dtype=torch.float64) / count).sqrt()
        shifts = spread([parameters["shifts"] for parameters in draws], tensors) * deviation
        return values * spread([parameters["factors"] for parameters in draws], tensors) + shifts.float()


def _spread(channel: NDArray[Any]) -> float:
    inside = channel[channel != 0]
    return float(inside.std(dtype=np.float64)) if inside.size else 0.0
