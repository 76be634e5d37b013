"""Owns the transforms that resize, flip, rotate and zoom on a sample's own grid; masks keep their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from voxflow.components.registry import register
from voxflow.components.transform import Draw, FieldTransform, Probability, RandomFieldTransform, Sample, is_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxflow.components.fields import Grid


@register("transform")
class ScaleToShape(FieldTransform):
    """Resize to ``target_shape``, outer edge to outer edge; linear for images (averaging when shrinking)."""

    target_shape: tuple[PositiveInt, ...]

    def grid_after(self, grid: Grid) -> Grid | None:
        """The target; each voxel covers more or less of what it did."""
        size, spacing = grid
        if len(size) != len(self.target_shape):
            return None
        steps = zip(spacing, size, self.target_shape, strict=True)
        return self.target_shape, tuple(step * before / after for step, before, after in steps)

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return (channel, *target_shape)."""
        if array.ndim - 1 != len(self.target_shape):
            raise ValueError(f"target_shape {self.target_shape} does not fit an image of shape {array.shape[1:]}")
        if array.shape[1:] == self.target_shape:
            return array
        import torch
        from torch.nn.functional import interpolate

        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
        if is_mask(array):
            resized = interpolate(tensor, size=self.target_shape, mode="nearest-exact")
        elif array.ndim == 3:
            resized = interpolate(tensor, size=self.target_shape, mode="bilinear", antialias=True)
        else:
            resized = interpolate(tensor, size=self.target_shape, mode="trilinear")
        return np.asarray(resized[0].numpy().astype(array.dtype))


@register("transform")
class RandomAxisFlip(RandomFieldTransform):
    """With ``probability``, flip along one spatial axis, chosen evenly."""

    probability: Probability = 0.5

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the axis."""
        if rng.random() >= self.probability:
            return {}
        return {"axes": (int(rng.integers(len(self.shape_of(sample)))),)}

    def change(self, array: NDArray[Any], drawn: Draw) -> NDArray[Any]:
        """Return the same shape, mirrored."""
        return np.asarray(np.flip(array, tuple(axis + 1 for axis in drawn["axes"])))


@register("transform")
class RandomSpatialFlip(RandomAxisFlip):
    """Flip along each spatial axis on its own with ``probability``."""

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the axes."""
        axes = tuple(int(a) for a in np.flatnonzero(rng.random(len(self.shape_of(sample))) < self.probability))
        return {"axes": axes} if axes else {}


@register("transform")
class RandomRotate3D(RandomFieldTransform):
    """With ``probability``, turn by 90, 180 or 270 degrees in the plane (i, j).

    A patch that is not square in that plane keeps its shape: it is turned by 180 degrees.
    """

    probability: Probability = 0.5

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the number of quarter turns."""
        if rng.random() >= self.probability:
            return {}
        shape = self.shape_of(sample)
        return {"turns": int(rng.integers(1, 4)) if shape[0] == shape[1] else 2}

    def change(self, array: NDArray[Any], drawn: Draw) -> NDArray[Any]:
        """Return the same shape, turned."""
        return np.rot90(array, drawn["turns"], axes=(1, 2))


@register("transform")
class RandomRotate2D(RandomFieldTransform):
    """Rotate in the plane of the first two spatial axes.

    Attributes:
        angle: degrees; with ``is_random`` the largest, either way round.
        is_random: draw the angle anew for each sample.
    """

    angle: float
    is_random: bool = True

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the angle."""
        del sample
        return {"angle": rng.uniform(-self.angle, self.angle) if self.is_random else self.angle}

    def change(self, array: NDArray[Any], drawn: Draw) -> NDArray[Any]:
        """Return the same shape; what turns in from outside repeats the edge."""
        from scipy import ndimage

        order = 0 if is_mask(array) else 1
        turned = ndimage.rotate(array, drawn["angle"], axes=(1, 2), reshape=False, order=order, mode="nearest")
        return np.asarray(turned)


@register("transform")
class RandomZoom(RandomFieldTransform):
    """With ``probability``, magnify about the centre; the shape stays, what comes in from outside is 0.

    Attributes:
        lower_limits: smallest factor; one value for all axes or one an axis.
        upper_limits: largest factor.
    """

    lower_limits: tuple[PositiveFloat, ...] | PositiveFloat = 0.9
    upper_limits: tuple[PositiveFloat, ...] | PositiveFloat = 1.1
    probability: Probability = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if np.any(np.asarray(self.lower_limits) > np.asarray(self.upper_limits)):
            raise ValueError(f"lower_limits {self.lower_limits} exceed upper_limits {self.upper_limits}")
        return self

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the factors: one draw for all axes, within each axis's limits."""
        if rng.random() >= self.probability:
            return {}
        low, high = np.asarray(self.lower_limits, float), np.asarray(self.upper_limits, float)
        return {"factors": np.broadcast_to(low + rng.random() * (high - low), len(self.shape_of(sample)))}

    def change(self, array: NDArray[Any], drawn: Draw) -> NDArray[Any]:
        """Return the same shape, magnified."""
        from scipy import ndimage

        centre = (np.asarray(array.shape[1:]) - 1) / 2
        matrix = 1 / np.asarray(drawn["factors"])
        order = 0 if is_mask(array) else 1
        zoomed = [ndimage.affine_transform(c, matrix, centre - matrix * centre, order=order) for c in array]
        return np.stack(zoomed)
