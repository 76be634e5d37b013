"""TLT 2's transforms that load, or only arrange axes; arrays here have their channels first from the loader on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, PositiveInt

from voxflow.components.registry import register
from voxflow.components.transforms.base import (
    Draw,
    FieldNames,
    FieldTransform,
    Sample,
    Transform,
    get_field,
    outline_fields,
)
from voxflow.components.transforms.grids import affine_key, read_geometry
from voxflow.components.transforms.loading import LoadNifti, LoadPng, list_paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

DataFormat = Literal["channels_first", "channels_last", "grayscale"]

register("transform", dialect="tlt2", name="LoadNifty")(LoadNifti)
register("transform", dialect="tlt2")(LoadPng)


@register("transform", dialect="tlt2")
class VolumeTo4dArray(FieldTransform):
    """Give a volume without channels one; what the loader reads has its channels already."""

    is_preprocessing: ClassVar[bool] = False

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array with an axis of channels.

        Args:
            array: (i, j, k) or (channel, i, j, k).

        Raises:
            ValueError: it has another number of axes.
        """
        if array.ndim not in (3, 4):
            raise ValueError(f"expected a volume of 3 or 4 axes, received shape {array.shape}")
        return array[None] if array.ndim == 3 else array

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor with an axis of channels."""
        return tensor[None] if tensor.ndim == 3 else tensor


@register("transform", dialect="tlt2")
class NPExpandDims(FieldTransform):
    """Name the axis of the channels; arrays here have it already, in front.

    Attributes:
        expand_axis: where TLT's array, which has none, gets it: 0 or the last.
    """

    is_preprocessing: ClassVar[bool] = False

    fields: FieldNames = Field(alias="applied_keys")
    expand_axis: int = 0

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is, channels in front.

        Raises:
            ValueError: it has several channels, or ``expand_axis`` means neither end.
        """
        if len(array) != 1:
            raise ValueError(f"the array has {len(array)} channels, there is nothing to expand")
        if self.expand_axis not in (0, -1, array.ndim - 1):
            raise ValueError(f"expand_axis {self.expand_axis} is no place for channels, use 0 or {array.ndim - 1}")
        return array

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor as it is, channels in front."""
        return cast("torch.Tensor", self.change(cast("Any", tensor)))


@register("transform", dialect="tlt2")
class NPRepChannels(FieldTransform):
    """Repeat each channel, so that a grey image feeds a colour network.

    Attributes:
        channel_axis: where the channels are in TLT's array: 0 or the last; here they are in front.
        repeat: times.
    """

    fields: FieldNames = Field(alias="applied_keys")
    channel_axis: int = 0
    repeat: PositiveInt

    def channels_after(self, channels: Mapping[str, int]) -> Mapping[str, int]:
        """Every channel, so many times."""
        return {name: channels[name] * self.repeat for name in self.fields if name in channels}

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Repeat every channel.

        Returns:
            (channel × repeat, ...spatial).

        Raises:
            ValueError: ``channel_axis`` means neither end.
        """
        if self.channel_axis not in (0, -1, array.ndim - 1):
            raise ValueError(f"channel_axis {self.channel_axis} holds no channels, use 0 or {array.ndim - 1}")
        return np.repeat(array, self.repeat, axis=0)

    def change_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Repeat every channel."""
        if self.channel_axis not in (0, -1, tensor.ndim - 1):
            raise ValueError(f"channel_axis {self.channel_axis} holds no channels, use 0 or {tensor.ndim - 1}")
        return tensor.repeat_interleave(self.repeat, 0)

    def outline(self, sample: Sample, parameters: Draw) -> Sample:
        """The fields have so many times the channels."""
        for name in self.fields:
            sample = outline_fields(sample, (name,), channels=len(sample[name]) * self.repeat)
        return sample


@register("transform", dialect="tlt2")
class LoadResolutionFromNifty(Transform):
    """Note an image's voxel spacing (i, j, k) in mm, from its file or, once that is loaded, from its grid.

    Attributes:
        field: the image.
        new_key: the name of the note; FIELD_resolution when left out. The grid itself stands beside it, so that what
            is resampled can come back to just these voxels.
    """

    takes_paths: ClassVar[bool] = True

    field: str = Field(alias="applied_key")
    new_key: str = ""

    @property
    def key(self) -> str:
        """The name of the note."""
        return self.new_key or f"{self.field}_resolution"

    def makes(self) -> tuple[str, ...]:
        """The note, and the grid beside it."""
        return self.key, affine_key(self.key), f"{self.key}_size"

    def __call__(self, sample: Sample) -> Sample:
        """Add the note."""
        grid = self._grid(sample)
        return sample | {
            self.key: grid.spacing,
            affine_key(self.key): np.array(grid.affine),
            f"{self.key}_size": grid.size,
        }

    def _grid(self, sample: Sample) -> Geometry:
        from voxflow.volumes import read_geometry as read_file_geometry

        paths = list_paths(get_field(sample, self.field, self))
        return read_file_geometry(paths[0], has_channels=True) if paths else read_geometry(sample, self.field)


@register("transform", dialect="tlt2")
class Load3DShapeFromNumpy(Transform):
    """Note an image's size (i, j, k) in voxels as FIELD_shape."""

    field: str = Field(alias="applied_key")

    def makes(self) -> tuple[str, ...]:
        """The note."""
        return (f"{self.field}_shape",)

    def __call__(self, sample: Sample) -> Sample:
        """Add the note."""
        return sample | {f"{self.field}_shape": get_field(sample, self.field, self).shape[-3:]}
