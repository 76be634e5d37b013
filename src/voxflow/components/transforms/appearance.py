"""Random changes of how an image looks, by nnU-Net's recipe: one transform for noise, blur, brightness and the rest.

An image of another scanner differs in all of these at once. Probabilities, ranges and order are those of nnU-Net's
trainer (Isensee et al. 2021; batchgeneratorsv2), whose ``noise_variance`` is a standard deviation. Each change is
computed by torch, for a patch on the processor and for one on a GPU by the same lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from voxflow.components.registry import register
from voxflow.components.transforms.base import Draw, RandomFieldTransform, Sample, get_field
from voxflow.components.transforms.tensors import upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

NOISE, BLUR, BRIGHTNESS, CONTRAST, RESOLUTION, INVERTED, GAMMA = 0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3
CHANNEL_SHARE = 0.5  # of the channels of a blurred or coarsened patch
LARGEST_NOISE = 0.1  # standard deviation; images come in with one of about 1
BLUR_RANGE = (0.5, 1.0)  # sigma, voxels
FACTORS = (0.75, 1.25)  # of brightness and of contrast
COARSEST = 0.5  # share of the voxels along an axis
GAMMAS = (0.7, 1.5)
BLUR_RADIUS = 3  # voxels: three times the largest sigma
THICK = 3  # an axis that has fewer voxels than a third of the longest is not coarsened
EPSILON = 1e-7


@register("transform")
class RandomAppearance(RandomFieldTransform):
    """Change a normalised image's looks by chance: noise, blur, brightness, contrast, lower resolution and gamma.

    Attributes:
        strength: 1 is nnU-Net's; a smaller one makes each change rarer and weaker by as much, and 0 makes none.

    Example:
        >>> change = RandomAppearance(fields=("image",))
        >>> image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
        >>> change({"image": image}, np.random.default_rng(3))["image"].shape
        (1, 8, 8, 8)
    """

    strength: float = Field(default=1.0, ge=0, le=1)

    @property
    def is_random(self) -> bool:
        """Unless its strength is 0."""
        return self.strength > 0

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose which changes are made, and how strong they are.

        Returns:
            Values of 0 (noise and blur) or 1 (the others) change nothing; {} where all are such. "deviation" and "seed"
            of the noise; by channel "sigma" of the blur, factors of "brightness" and "contrast", "zoom" of the
            resolution, exponents of the "inverted" and of the plain "gamma".
        """
        channels = len(get_field(sample, self.fields[0], self))
        chances = np.array((NOISE, BLUR, BRIGHTNESS, CONTRAST, RESOLUTION, INVERTED, GAMMA)) * self.strength
        # Everything is drawn whatever is used, so that one change's chance leaves the others as they were.
        happens = rng.random(len(chances)) < chances
        amounts, shares = rng.random((len(chances), channels)), rng.random((2, channels)) < CHANNEL_SHARE
        seed = int(rng.integers(2**32))
        if not happens.any():
            return {}
        exponents = self._between(GAMMAS, amounts[5:])
        return {
            "deviation": float(happens[0] * amounts[0, 0] * LARGEST_NOISE * self.strength),
            "seed": seed,
            "sigma": happens[1] * shares[0] * (BLUR_RANGE[0] + amounts[1] * (BLUR_RANGE[1] - BLUR_RANGE[0])),
            "brightness": np.where(happens[2], self._between(FACTORS, amounts[2]), 1.0),
            "contrast": np.where(happens[3], self._between(FACTORS, amounts[3]), 1.0),
            "zoom": np.where(happens[4] & shares[1], self._between((COARSEST, 1.0), amounts[4]), 1.0),
            "inverted": np.where(happens[5], exponents[0], 1.0),
            "gamma": np.where(happens[6], exponents[1], 1.0),
        }

    def _between(self, limits: tuple[float, float], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spread shares from 0 to 1 over a range about 1 that is the narrower, the smaller the strength is."""
        low, high = (1 + (limit - 1) * self.strength for limit in limits)
        return np.asarray(low + amounts * (high - low))

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Change one array.

        Args:
            array: (channel, ...spatial), of mean 0 and standard deviation 1 or so.
            parameters: as :meth:`draw` returned them.

        Returns:
            float32 of the same shape.
        """
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        return np.asarray(_change_item(tensor, parameters).numpy())

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Do what :meth:`change` does to each item of a batch."""
        import torch

        return torch.stack([_change_item(item.float(), drawn) for item, drawn in zip(tensors, draws, strict=True)])


def _change_item(tensor: torch.Tensor, parameters: Draw) -> torch.Tensor:
    """Make the changes that were drawn, in nnU-Net's order."""
    if parameters["deviation"]:
        noise = np.random.default_rng(parameters["seed"]).standard_normal(tuple(tensor.shape), dtype=np.float32)
        tensor = tensor + upload(noise, tensor.device) * parameters["deviation"]
    if np.any(parameters["sigma"]):
        tensor = _blur(tensor, parameters["sigma"])
    if np.any(parameters["brightness"] != 1):
        tensor = tensor * _fit(parameters["brightness"], tensor)
    if np.any(parameters["contrast"] != 1):
        tensor = _change_contrast(tensor, parameters["contrast"])
    if np.any(parameters["zoom"] != 1):
        tensor = _coarsen(tensor, parameters["zoom"])
    if np.any(parameters["inverted"] != 1):
        tensor = -_apply_gamma(-tensor, parameters["inverted"])
    return _apply_gamma(tensor, parameters["gamma"]) if np.any(parameters["gamma"] != 1) else tensor


def _fit(values: NDArray[np.float64], like: torch.Tensor) -> torch.Tensor:
    """One number a channel, with the axes of (channel, ...spatial)."""
    return upload(values.astype(np.float32), like.device).view(-1, *(1,) * (like.ndim - 1))


def _blur(tensor: torch.Tensor, sigmas: NDArray[np.float64]) -> torch.Tensor:
    """Convolve each channel with a Gaussian, axis by axis; one of sigma 0 stays as it is."""
    from torch.nn import functional

    places = np.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    weights = np.exp(-0.5 * (places / np.maximum(sigmas, EPSILON)[:, None]) ** 2)
    kernel = upload((weights / weights.sum(1, keepdims=True)).astype(np.float32), tensor.device)
    channels, spatial = len(tensor), tensor.ndim - 1
    convolve = functional.conv3d if spatial == 3 else functional.conv2d
    blurred = tensor[None]
    for axis in range(spatial):
        shape, padding = [1] * spatial, [0] * (2 * spatial)
        shape[axis] = len(places)
        padding[2 * (spatial - 1 - axis)] = padding[2 * (spatial - 1 - axis) + 1] = BLUR_RADIUS
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = convolve(padded, kernel.view(channels, 1, *shape), groups=channels)
    return blurred[0]


def _change_contrast(tensor: torch.Tensor, factors: NDArray[np.float64]) -> torch.Tensor:
    """Stretch each channel about its mean, within the values that it has."""
    axes = tuple(range(1, tensor.ndim))
    mean = tensor.mean(axes, keepdim=True)
    stretched = (tensor - mean) * _fit(factors, tensor) + mean
    return stretched.clamp(tensor.amin(axes, keepdim=True), tensor.amax(axes, keepdim=True))


def _coarsen(tensor: torch.Tensor, zooms: NDArray[np.float64]) -> torch.Tensor:
    """Keep the nearest of fewer voxels, and interpolate linearly between these."""
    import torch
    from torch.nn.functional import interpolate

    shape = tuple(tensor.shape[1:])
    channels = []
    for channel, zoom in zip(tensor, zooms.tolist(), strict=True):
        size = [max(1, round(n * zoom)) if n * THICK >= max(shape) else n for n in shape]
        small = interpolate(channel[None, None], size=size, mode="nearest-exact") if zoom < 1 else channel
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        channels.append(interpolate(small, size=shape, mode=mode)[0, 0] if zoom < 1 else channel)
    return torch.stack(channels)


def _apply_gamma(tensor: torch.Tensor, exponents: NDArray[np.float64]) -> torch.Tensor:
    """Raise each channel, scaled to [0, 1], to a power; then give it the mean and deviation that it had."""
    axes = tuple(range(1, tensor.ndim))
    low, high = tensor.amin(axes, keepdim=True), tensor.amax(axes, keepdim=True)
    powers = ((tensor - low) / (high - low + EPSILON)).clamp(min=0) ** _fit(exponents, tensor)
    mean, deviation = (measure(axes, keepdim=True) for measure in (tensor.mean, tensor.std))
    return (powers - powers.mean(axes, keepdim=True)) / (powers.std(axes, keepdim=True) + EPSILON) * deviation + mean
