"""TLT 2's transforms that crop: anywhere, about the centre, about the label, by a ratio that follows the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from voxflow.components.registry import register
from voxflow.components.tlt.loading import DataFormat  # noqa: TC001 (pydantic reads annotations at run time)
from voxflow.components.transforms.base import FieldNames, FieldTransform, Sample, Transform, get_field
from voxflow.components.transforms.boxes import cut_fields
from voxflow.components.transforms.cropping import (
    CropFixedSizeRandomCenter,
    CropRandomSizeWithDisplacement,
    FastCropByPosNegRatio,
    FastPosNegRatioCropROI,
)
from voxflow.components.transforms.grids import rescale_affines
from voxflow.components.transforms.spatial import resize_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


@register("transform", dialect="tlt2")
class CropSubVolumeRandomWithinBounds(CropFixedSizeRandomCenter):
    """Crop a box of fixed size anywhere inside the image; a smaller image is padded with 0 about its middle."""


@register("transform", dialect="tlt2")
class CropSubVolumeCenter(FieldTransform):
    """Crop a box of fixed size about the image's centre; a smaller image is padded with 0."""

    is_preprocessing: ClassVar[bool] = False

    size: tuple[PositiveInt, ...] = Field(min_length=2, max_length=3)

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with every field cropped, and where it lies now."""
        shape, size = np.array(get_field(sample, self.fields[0], self).shape[1:]), np.array(self.size)
        start = np.where(shape >= size, (shape - size) // 2, -((size - shape) // 2))
        return cut_fields(sample, self.fields, start, self.size, by=self)

    def change(self, array: NDArray[Any]) -> NDArray[Any]:
        """Crop one array about its centre.

        Returns:
            (channel, *size); padded with 0 where the image is smaller.
        """
        cropped: NDArray[Any] = self({self.fields[0]: array})[self.fields[0]]
        return cropped


@register("transform", dialect="tlt2")
class CropRandomSubImageInRange(CropRandomSizeWithDisplacement):
    """Crop a box of random size about a displaced centre, inside the radiograph.

    Attributes:
        lower_size: smallest size: a share of the image, or pixels.
        data_format: accepted; arrays here have their channels first.
    """

    fields: FieldNames = Field(alias="image_field")
    data_format: DataFormat = "grayscale"


@register("transform", dialect="tlt2")
class CropForegroundObject(Transform):
    """Crop image and label to the box that holds the label's foreground, and resize both.

    Attributes:
        size: the size that the box is brought to, voxels.
    """

    is_preprocessing: ClassVar[bool] = False

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    image_field: str = "image"
    label_field: str = "label"

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample with both fields cropped."""
        inside = np.argwhere(get_field(sample, self.label_field, self).any(0))
        if not len(inside):
            raise ValueError(f"CropForegroundObject needs a foreground voxel; the field {self.label_field!r} has none")
        start, end = inside.min(0), inside.max(0) + 1
        names = self.image_field, self.label_field
        cropped = cut_fields(sample, names, start, end - start, by=self)
        affines = rescale_affines(cropped, names, self.size)
        return cropped | {name: resize_array(cropped[name], self.size) for name in names} | affines


@register("transform", dialect="tlt2")
class CropSubVolumePosNegRatioCtrlEpoch(FastCropByPosNegRatio):
    """Crop about the label or away from it, by a ratio of both that changes as training goes on.

    Attributes:
        ratio_start: positive patches for each negative one in the first epochs.
        ratio_end: the same once it has got there.
        ratio_step: change after each ``num_epochs`` epochs, towards the end; its sign does not matter.
        num_epochs: epochs that one ratio lasts.
    """

    fields: FieldNames = Field(default=("image",), alias="image_field")
    ratio_start: NonNegativeFloat
    ratio_end: NonNegativeFloat
    ratio_step: float
    num_epochs: PositiveInt

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if not self.ratio_step and self.ratio_start != self.ratio_end:
            raise ValueError("ratio_step must not be 0 where ratio_start and ratio_end differ")
        return self

    def ratio(self, epoch: int) -> float:
        """Return how many positive patches there are for each negative one in an epoch.

        Args:
            epoch: from 1.

        Example:
            >>> crop = CropSubVolumePosNegRatioCtrlEpoch(
            ...     size=(8, 8, 8), ratio_start=4.0, ratio_end=1.0, ratio_step=1.0, num_epochs=10
            ... )
            >>> [crop.ratio(epoch) for epoch in (1, 10, 11, 40)]
            [4.0, 4.0, 3.0, 1.0]
        """
        share = self.ratio_end - self.ratio_start
        # The two ends say the direction, so that the step's sign does not count.
        change = abs(self.ratio_step) * ((epoch - 1) // self.num_epochs)
        return self.ratio_end if change >= abs(share) else self.ratio_start + float(np.copysign(change, share))

    def at_epoch(self, epoch: int) -> Self:
        """The crop with this epoch's ratio."""
        return self.model_copy(update={"pos": self.ratio(epoch), "neg": 1.0})


@register("transform", dialect="tlt2")
class TransformVolumeCropROIFastPosNegRatio(FastPosNegRatioCropROI):
    """TLT's name for FastPosNegRatioCropROI; the field "label" says what is positive."""

    fields: FieldNames = Field(alias="applied_keys")
