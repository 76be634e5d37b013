"""Batches: who is in them, and what does not fit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from voxflow.components import Chain, Component, SegmentationImagePipeline
from voxflow.errors import DataError
from voxflow.training.data import Batches, collate

SIZE = (8, 8, 8)


def sample(name: str, shape: tuple[int, int, int] = (12, 12, 12)) -> dict[str, Any]:
    return {"case": name, "image": np.ones((1, *shape), np.float32), "label": np.ones((1, *shape), np.uint8)}


def pipeline(**arguments: Any) -> SegmentationImagePipeline:
    places: dict[str, Any] = {"data_list_file_path": "", "data_file_base_dir": "", "data_list_key": "training"}
    return SegmentationImagePipeline(**places, output_crop_size=SIZE, **arguments)


def crops(count: int) -> Chain:
    crop = {"fields": "image", "size": list(SIZE), "batch_size": count}
    return Chain.build([Component(name="FastCropByPosNegRatio", args=crop)])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_takes_every_case_and_fills_the_last_batch(workers: int) -> None:
    store = [sample(str(n)) for n in range(5)]
    batches = Batches(store, crops(2), pipeline(output_batch_size=2), 0, workers)
    epoch = list(batches.iterate_epoch(1))
    assert batches.steps == len(epoch) == 3
    assert {batch.image.shape for batch in epoch} == {(4, 1, *SIZE)}
    assert set(Counter(case for batch in epoch for case in batch.cases)) == set("01234")


def test_batched_by_transforms_means_one_case_a_step() -> None:
    batches = Batches(
        [sample("a"), sample("b")], crops(3), pipeline(output_batch_size=3, batched_by_transforms=True), 0
    )
    assert [batch.image.shape[0] for batch in batches.iterate_epoch(1)] == [3, 3]
    assert [len(set(batch.cases)) for batch in batches.iterate_epoch(1)] == [1, 1]


def test_images_are_fitted_to_the_crop_size_and_findings_left_alone() -> None:
    batch = collate([sample("a", (6, 12, 8)), sample("b")], SIZE)
    assert batch.image.shape == batch.label.shape == (2, 1, *SIZE)
    findings = {"case": "x", "image": np.ones((1, 4, 4), np.float32), "label": np.ones(3, np.float32)}
    assert collate([findings], (8, 8)).label.shape == (1, 3)


def test_whole_images_of_different_size_can_not_be_stacked() -> None:
    with pytest.raises(DataError, match=r"images of one batch differ in shape: .* \(cases a, b\); crop or scale them"):
        collate([sample("a"), sample("b", (6, 6, 6))], (-1, -1, -1))
