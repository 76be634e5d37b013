"""Transforms that resize, flip, rotate and zoom on a sample's own grid; masks keep their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt, model_validator

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    Draw,
    FieldNames,
    FieldTransform,
    Probability,
    RandomFieldTransform,
    Sample,
    is_mask,
    outline_fields,
)
from voxflow.components.transforms.grids import rescale_affines
from voxflow.components.transforms.tensors import is_mask_tensor, sample_tensors, upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.components.fields import GridShape


@register("transform")
class ScaleToShape(FieldTransform):
    """Resize to ``target_shape``, outer edge to outer edge; linear for images (averaging when shrinking)."""

    is_preprocessing: ClassVar[bool] = False
    moves_voxels: ClassVar[bool] = True

    target_shape: tuple[PositiveInt, ...]

    def grid_after(self, grid: GridShape) -> GridShape | None:
        """Return the target shape and the spacing that its voxels then have.

        Returns:
            None where the image has another number of axes.
        """
        size, spacing = grid
        if len(size) != len(self.target_shape):
            return None
        steps = zip(spacing, size, self.target_shape, strict=True)
        return self.target_shape, tuple(step * before / after for step, before, after in steps)

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with every field resized."""
        resized_sample = super().__call__(sample)
        return resized_sample | rescale_affines(sample, self.fields, self.target_shape)

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Resize one array.

        Returns:
            (channel, *target_shape) of the same type.

        Raises:
            ValueError: the image has another number of axes.
        """
        if array.ndim - 1 != len(self.target_shape):
            raise ValueError(f"target_shape {self.target_shape} does not fit an image of shape {array.shape[1:]}")
        return resize_array(array, self.target_shape)

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`change` does to a tensor of any device."""
        return resize_tensor(tensor, self.target_shape)

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have the target shape."""
        return outline_fields(sample, self.fields, self.target_shape)


@register("transform")
class RandomAxisFlip(RandomFieldTransform):
    """With ``probability``, flip along one spatial axis, chosen evenly."""

    moves_voxels: ClassVar[bool] = True

    probability: Probability = 0.5

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose whether to flip, and along which axis.

        Returns:
            "axes": the spatial axis, from 0; {} with probability 1 - ``probability``.
        """
        if rng.random() >= self.probability:
            return {}
        return {"axes": (int(rng.integers(len(self.shape_of(sample)))),)}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Mirror one array.

        Args:
            array: (channel, ...spatial).
            parameters: "axes": spatial axes, from 0.
        """
        return np.asarray(np.flip(array, tuple(axis + 1 for axis in parameters["axes"])))

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Mirror each item."""
        import torch

        pairs = zip(tensors, draws, strict=True)
        return torch.stack([item.flip([axis + 1 for axis in parameters["axes"]]) for item, parameters in pairs])


@register("transform")
class RandomSpatialFlip(RandomAxisFlip):
    """Flip along each spatial axis on its own with ``probability``.

    Attributes:
        axes: those that may be flipped; None: all.
        in_inference: the model file names these axes, and inference with ``flips: auto`` mirrors along them, too.
    """

    axes: tuple[Literal["i", "j", "k"], ...] | None = None
    in_inference: bool = False

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose for each axis on its own whether to flip it.

        Returns:
            "axes": the spatial axes, from 0; {} where none is flipped.
        """
        candidates = np.flatnonzero(rng.random(len(self.shape_of(sample))) < self.probability)
        axes = tuple(int(axis) for axis in candidates if self.axes is None or "ijk"[axis] in self.axes)
        return {"axes": axes} if axes else {}


@register("transform")
class RandomRotate3D(RandomFieldTransform):
    """With ``probability``, turn by 90, 180 or 270 degrees in the plane (i, j).

    A patch that is not square in that plane keeps its shape: it is turned by 180 degrees.
    """

    moves_voxels: ClassVar[bool] = True

    probability: Probability = 0.5

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the number of quarter turns.

        Returns:
            "turns": 1, 2 or 3, 2 where i and j differ in size; {} with probability 1 - ``probability``.
        """
        if rng.random() >= self.probability:
            return {}
        shape = self.shape_of(sample)
        # A quarter turn of an oblong patch would change its shape, and a batch has one.
        return {"turns": int(rng.integers(1, 4)) if shape[0] == shape[1] else 2}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Turn one array in the plane (i, j).

        Args:
            array: (channel, i, j, k).
            parameters: "turns": by 90 degrees each.
        """
        return np.rot90(array, parameters["turns"], axes=(1, 2))

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Turn each item."""
        import torch

        pairs = zip(tensors, draws, strict=True)
        return torch.stack([torch.rot90(item, parameters["turns"], (1, 2)) for item, parameters in pairs])


@register("transform")
class RandomRotate2D(RandomFieldTransform):
    """Rotate in the plane of the first two spatial axes.

    Attributes:
        angle: degrees; where it is drawn the largest, either way round.
        is_drawn: the argument ``is_random``: draw the angle anew for each sample.
    """

    moves_voxels: ClassVar[bool] = True

    angle: float
    is_drawn: bool = Field(default=True, alias="is_random")

    @property
    def is_random(self) -> bool:
        """Whether the angle is drawn."""
        return self.is_drawn

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the angle.

        Returns:
            "angle": degrees.
        """
        return {"angle": rng.uniform(-self.angle, self.angle) if self.is_drawn else self.angle}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Rotate one array in the plane of its first two spatial axes.

        Args:
            array: (channel, ...spatial).
            parameters: "angle": degrees.

        Returns:
            The same shape; what turns in from outside repeats the edge. Images are interpolated linearly.
        """
        from scipy import ndimage

        order = 0 if is_mask(array) else 1
        turned = ndimage.rotate(array, parameters["angle"], axes=(1, 2), reshape=False, order=order, mode="nearest")
        return np.asarray(turned)

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Rotate each item."""
        import torch

        rows, columns = tensors.shape[2:4]
        # Where the voxel of a unit of torch's grid, half the distance of the outermost centres, is read from.
        half = np.maximum(np.array([rows - 1, columns - 1]) / 2, 0.5)
        radians = np.deg2rad([parameters["angle"] for parameters in draws])
        cos, sin = np.cos(radians), np.sin(radians)
        turns = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1) / half[:, None]
        # torch names the last axis first.
        by_row, by_column = upload(turns[:, ::-1].astype(np.float32), tensors.device)[:, None, None].unbind(-1)
        row, column = (
            torch.arange(n, dtype=torch.float32, device=tensors.device) - (n - 1) / 2 for n in (rows, columns)
        )
        grid = row[:, None, None] * by_row + column[:, None] * by_column
        # All slices along the third axis are turned alike.
        flat = tensors.movedim(4, 2).flatten(1, 2) if tensors.ndim == 5 else tensors
        turned = sample_tensors(flat, grid, "border")
        if tensors.ndim == 4:
            return turned
        batch, channels, *_, depth = tensors.shape
        return turned.reshape(batch, channels, depth, rows, columns).movedim(2, 4)


@register("transform")
class RandomZoom(RandomFieldTransform):
    """With ``probability``, magnify about the centre; what comes in from outside is 0.

    Attributes:
        fields: images, also under the name ``image_field``.
        label_field: a mask that is magnified with them.
        lower_limits: smallest factor; one value for all axes or one an axis.
        upper_limits: largest factor.
        keep_size: the shape stays; else it grows and shrinks with the factor.
    """

    moves_voxels: ClassVar[bool] = True

    fields: FieldNames = Field(validation_alias=AliasChoices("fields", "image_field"))
    label_field: str | None = None
    keep_size: bool = True
    lower_limits: tuple[PositiveFloat, ...] | PositiveFloat = 0.9
    upper_limits: tuple[PositiveFloat, ...] | PositiveFloat = 1.1
    probability: Probability = 1.0

    @property
    def changed_fields(self) -> tuple[str, ...]:
        """The images, and the mask with them."""
        return self.fields if self.label_field in (None, *self.fields) else (*self.fields, str(self.label_field))

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if np.any(np.asarray(self.lower_limits) > np.asarray(self.upper_limits)):
            raise ValueError(f"lower_limits {self.lower_limits} exceed upper_limits {self.upper_limits}")
        return self

    def draw(self, sample: Sample, rng: np.random.Generator) -> Draw:
        """Choose the factors: one draw for all axes, within each axis's limits.

        Returns:
            "factors": one a spatial axis, above 1 to magnify; {} with probability 1 - ``probability``.
        """
        if rng.random() >= self.probability:
            return {}
        low, high = np.asarray(self.lower_limits, float), np.asarray(self.upper_limits, float)
        return {"factors": np.broadcast_to(low + rng.random() * (high - low), len(self.shape_of(sample)))}

    def change(self, array: NDArray[Any], parameters: Draw) -> NDArray[Any]:
        """Magnify one array about its centre.

        Args:
            array: (channel, ...spatial).
            parameters: "factors": one a spatial axis.

        Returns:
            The same shape, 0 where nothing comes in; without ``keep_size`` as much larger as it was magnified.
        """
        if not self.keep_size:
            shape = np.maximum(1, np.rint(np.array(array.shape[1:]) * parameters["factors"])).astype(int)
            return resize_array(array, tuple(shape.tolist()))
        from scipy import ndimage

        # SciPy asks where each new voxel comes from, so that factors are inverted and the centre stays.
        centre = (np.asarray(array.shape[1:]) - 1) / 2
        matrix = 1 / np.asarray(parameters["factors"])
        order = 0 if is_mask(array) else 1
        zoomed = [ndimage.affine_transform(c, matrix, centre - matrix * centre, order=order) for c in array]
        return np.stack(zoomed)

    @property
    def takes_tensors(self) -> bool:
        """Where the items of a batch keep one shape."""
        return self.keep_size and super().takes_tensors

    def change_tensors(self, tensors: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
        """Magnify each item about its centre."""
        import torch

        shape = tensors.shape[2:]
        grid = torch.empty((len(tensors), *shape, len(shape)), dtype=torch.float32, device=tensors.device)
        for axis, n in enumerate(shape):
            centre = (n - 1) / 2
            steps = 1 / np.array([parameters["factors"][axis] for parameters in draws])[:, None]
            # SciPy blends nothing across an edge: what lies beyond the outermost centres is 0. The sums are rounded as
            # in its NI_ZoomShift.
            places = (np.arange(n) + (centre - steps * centre) / steps) * steps
            is_outside = (places < 0) | (places > n - 1)
            scaled = np.where(is_outside, -3, places * (2 / max(n - 1, 1)) - 1).astype(np.float32)
            view = [1] * len(shape)
            view[axis] = n
            # torch names the last axis first.
            grid[..., len(shape) - 1 - axis] = upload(scaled, tensors.device).reshape(-1, *view)
        return sample_tensors(tensors, grid)


def resize_array(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Bring an array to a spatial shape, outer edge to outer edge.

    Args:
        array: (channel, ...spatial) of two or three spatial axes.
        shape: spatial, without the channels.

    Returns:
        (channel, *shape) of the same type. Masks take the nearest voxel; images are interpolated linearly, and
        radiographs averaged where they shrink.

    Example:
        >>> resize_array(np.array([[[0, 1], [2, 3]]], np.uint8), (2, 4))
        array([[[0, 0, 1, 1],
                [2, 2, 3, 3]]], dtype=uint8)
    """
    if array.shape[1:] == shape:
        return array
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    answer = _interpolate(tensor, shape, is_mask=is_mask(array))
    return np.asarray(answer.numpy().astype(array.dtype))


def resize_tensor(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Do what :func:`resize_array` does to a tensor of any device."""
    if tuple(tensor.shape[1:]) == shape:
        return tensor
    return _interpolate(tensor.float(), shape, is_mask=is_mask_tensor(tensor)).to(tensor.dtype)


def _interpolate(tensor: torch.Tensor, shape: tuple[int, ...], *, is_mask: bool) -> torch.Tensor:
    from torch.nn.functional import interpolate

    if is_mask:
        # torch's mode "nearest" repeats an old error of OpenCV's and lies up to half a voxel off.
        return interpolate(tensor[None], size=shape, mode="nearest-exact")[0]
    if tensor.ndim == 3:
        # torch averages while it shrinks in two dimensions only.
        return interpolate(tensor[None], size=shape, mode="bilinear", antialias=True)[0]
    return interpolate(tensor[None], size=shape, mode="trilinear")[0]
