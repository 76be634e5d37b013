"""Owns the image pipelines: which cases training reads and how their patches become batches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from voxflow.components.registry import ComponentModel, register


class Pipeline(ComponentModel):
    """How cases become batches.

    Attributes:
        data_list_file_path: the datalist; stage programs pass their own.
        data_file_base_dir: the folder that its paths begin in; stage programs pass their own.
        data_list_key: the datalist's key.
        output_crop_size: every image is cropped or padded about its centre to this; -1 keeps an axis whole.
        output_batch_size: images a step.
        batched_by_transforms: a crop that makes several patches makes the batch; one case a step.
        num_workers: threads that prepare batches ahead; a training option may override it.
        prefetch_size: accepted; one batch a worker is held ready.
    """

    data_list_file_path: str
    data_file_base_dir: str
    data_list_key: str
    output_crop_size: tuple[int, ...]
    output_batch_size: PositiveInt = 1
    batched_by_transforms: bool = False
    num_workers: NonNegativeInt = 0
    prefetch_size: NonNegativeInt = 0

    @property
    def cases_per_step(self) -> int:
        """Cases that one step reads."""
        return 1 if self.batched_by_transforms else self.output_batch_size


@register("pipeline")
class SegmentationImagePipeline(Pipeline):
    """Volumes with masks."""


@register("pipeline")
class SegmentationImagePipelineWithCache(SegmentationImagePipeline):
    """Volumes with masks, kept after their deterministic transforms.

    Attributes:
        num_cache_objects: accepted; all cases are kept.
        replace_percent: accepted; with all cases kept, none is replaced.
    """

    num_cache_objects: NonNegativeInt = 0
    replace_percent: float = Field(default=0.0, ge=0, le=1)


@register("pipeline")
class ClassificationImagePipeline(Pipeline):
    """Radiographs with findings.

    Attributes:
        output_data_format: accepted; the memory layout is chosen by what is fastest.
        output_image_channels: channels that the network reads.
    """

    output_data_format: Literal["channels_first", "channels_last"] = "channels_first"
    output_image_channels: PositiveInt = 1
