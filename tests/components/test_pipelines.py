"""Pipelines: which cases an epoch learns from, against MONAI's smart cache, and sizes that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from monai.data import SmartCacheDataset

from voxflow.components import Component, create
from voxflow.errors import ConfigError

PLACES = {"data_list_file_path": "x", "data_file_base_dir": "y", "data_list_key": "training"}


def build(name: str, **args: object) -> Any:
    return create("pipeline", Component(name=name, args={**PLACES, "output_crop_size": [96, 96, 96], **args}))


@pytest.mark.parametrize(("count", "share"), [(8, 0.25), (8, 0.3), (20, 0.5), (10, 0.0), (23, 1.0)])
def test_the_cache_moves_on_as_monais(count: int, share: float) -> None:
    pipeline = build("SegmentationImagePipelineWithCache", num_cache_objects=count, replace_percent=share)
    reference = SmartCacheDataset(
        data=list(range(24)),
        transform=lambda x: x,
        cache_num=count,
        replace_rate=max(share, 1e-9),
        shuffle=False,
        progress=False,
    )
    reference.start()
    for epoch in range(1, 9):
        cached = [int(reference[n]) for n in range(len(reference))]
        if share == 0:
            cached = list(range(count))  # MONAI refuses a rate of 0, which leaves the cache as it is
        assert sorted(pipeline.window(24, epoch).tolist()) == sorted(cached), epoch
        reference.update_cache()
    reference.shutdown()


@pytest.mark.parametrize("args", [{}, {"num_cache_objects": 0}, {"num_cache_objects": 9}, {"num_cache_objects": 20}])
def test_a_cache_that_holds_every_case_replaces_none(args: dict[str, int]) -> None:
    pipeline = build("SegmentationKerasImagePipelineWithCache", replace_percent=0.5, multiprocessing=True, **args)
    assert pipeline.window(9, 4).tolist() == list(range(9))
    assert build("SegmentationImagePipeline").window(9, 4).tolist() == list(range(9))


def test_every_case_has_its_turn() -> None:
    pipeline = build("SegmentationImagePipelineWithCache", num_cache_objects=20, replace_percent=0.25)
    cases = {int(case) for epoch in range(1, 5) for case in pipeline.window(32, epoch)}
    assert cases == set(range(32))


def test_published_arguments_are_taken() -> None:
    channels = {"output_image_channels": 1, "output_label_channels": 1}
    pipeline = build("SegmentationImagePipeline", **channels, output_batch_size=4, num_workers=16, prefetch_size=4)
    assert pipeline.cases_per_step == 4
    assert build("SegmentationImagePipeline", output_batch_size=0, batched_by_transforms=True).cases_per_step == 1
    build("ClassificationImagePipeline", output_crop_size=[256, 256], output_data_format="channels_last")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"output_crop_size": [-2, 96, 96]},
            r"output_crop_size is positive, or -1 for a whole axis, not \[-2, 96, 96\]",
        ),
        ({"output_crop_size": [0, 96, 96]}, "output_crop_size is positive"),
        ({"output_batch_size": 0}, "may be 0 only where batched_by_transforms makes the batch"),
        ({"replace_percent": 25}, "replace_percent: Input should be less than or equal to 1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("SegmentationImagePipelineWithCache", **args)
