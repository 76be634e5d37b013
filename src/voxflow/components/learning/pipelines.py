"""Image pipelines: which cases an epoch learns from, and how their patches become batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from voxflow.components.registry import ComponentModel, register

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Pipeline(ComponentModel):
    """How cases become batches.

    Attributes:
        data_list_file_path: the datalist; stage programs pass their own.
        data_file_base_dir: the folder that its paths begin in; stage programs pass their own.
        data_list_key: the datalist's key.
        output_crop_size: every image is cropped or padded about its centre to this; -1 keeps an axis whole.
        output_batch_size: cases a step; a crop that makes several patches of each makes the batch so many times larger.
        batched_by_transforms: such a crop alone makes the batch; one case a step, whatever ``output_batch_size`` says.
        output_image_channels: channels of the image that the network reads; None: as many as come.
        output_label_channels: channels of the label; None: as many as come.
        num_workers: threads that prepare batches ahead; a training option may override it.
        prefetch_size: accepted; one batch a worker is held ready.
    """

    data_list_file_path: str
    data_file_base_dir: str
    data_list_key: str
    output_crop_size: tuple[int, ...] = Field(min_length=2, max_length=3)
    output_batch_size: NonNegativeInt = 1
    batched_by_transforms: bool = False
    output_image_channels: PositiveInt | None = None
    output_label_channels: PositiveInt | None = None
    num_workers: NonNegativeInt = 0
    prefetch_size: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if any(n < -1 or n == 0 for n in self.output_crop_size):
            raise ValueError(f"output_crop_size is positive, or -1 for a whole axis, not {list(self.output_crop_size)}")
        if self.output_batch_size == 0 and not self.batched_by_transforms:
            raise ValueError("output_batch_size may be 0 only where batched_by_transforms makes the batch")
        return self

    @property
    def cases_per_step(self) -> int:
        """Cases that one step reads."""
        return 1 if self.batched_by_transforms else self.output_batch_size

    def window(self, count: int, epoch: int) -> NDArray[np.int64]:
        """Return the cases that an epoch learns from.

        Args:
            count: cases of the datalist's part.
            epoch: from 1.

        Returns:
            Positions in the datalist, from 0; here all of them.
        """
        return np.arange(count)


@register("pipeline")
class SegmentationImagePipeline(Pipeline):
    """Volumes with masks.

    Attributes:
        output_data_format: accepted; the memory layout is chosen by what is fastest.
    """

    output_data_format: Literal["channels_first", "channels_last"] = "channels_first"


@register("pipeline")
class SegmentationImagePipelineWithCache(SegmentationImagePipeline):
    """Volumes with masks, a few of them at a time: an epoch learns from those in the cache, and then some are replaced.

    Attributes:
        num_cache_objects: cases in the cache; 0, or as many as there are: all.
        replace_percent: share of the cache that other cases replace after each epoch, first come, first to leave.
    """

    num_cache_objects: NonNegativeInt = 0
    replace_percent: float = Field(default=0.0, ge=0, le=1)

    def window(self, count: int, epoch: int) -> NDArray[np.int64]:
        """Return the cases in the cache: a window that moves on in the datalist's order, and begins again at its end.

        Args:
            count: cases of the datalist's part.
            epoch: from 1; each one moves the window on by ``replace_percent`` of it.

        Returns:
            Positions in the datalist, from 0.

        Example:
            >>> pipeline = SegmentationImagePipelineWithCache(
            ...     data_list_file_path="", data_file_base_dir="", data_list_key="training",
            ...     output_crop_size=(-1, -1, -1),
            ...     num_cache_objects=4, replace_percent=0.25,
            ... )
            >>> pipeline.window(count=6, epoch=2)
            array([1, 2, 3, 4])
        """
        cached = self.num_cache_objects
        if not 0 < cached < count:
            return np.arange(count)
        # As MONAI's SmartCacheDataset: no more come in than wait outside.
        step = min(math.ceil(cached * self.replace_percent), count - cached)
        return ((epoch - 1) * step + np.arange(cached)) % count


@register("pipeline")
class SegmentationKerasImagePipelineWithCache(SegmentationImagePipelineWithCache):
    """The same by Keras's loader.

    Attributes:
        multiprocessing: accepted; batches are prepared by threads that share the cases' memory.
    """

    multiprocessing: bool = False


@register("pipeline")
class ClassificationImagePipeline(Pipeline):
    """Radiographs with findings.

    Attributes:
        output_data_format: accepted; the memory layout is chosen by what is fastest.
    """

    output_data_format: Literal["channels_first", "channels_last"] = "channels_first"
