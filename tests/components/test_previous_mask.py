"""The mask of a first stage as channels: one a class, changed in training as nnU-Net does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from voxflow.components import Chain, Component, ShowPreviousMask, TensorBatch

SIZE = (12, 11, 10)


def make_sample(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (4, 4, 4)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    mask = coarse[: SIZE[0], : SIZE[1], : SIZE[2]][None].astype(np.uint8)
    return {"image": rng.normal(size=(1, *SIZE)).astype(np.float32), "previous": mask}


def change(sample: dict[str, Any], operation: str = "", radius: int = 1, removed: float = -1.0) -> Any:
    show = ShowPreviousMask(values=(1, 2))
    drawn = {"operations": [operation, ""], "radii": [radius, radius], "removed": [removed, -1.0]}
    return show.apply(sample, drawn)["image"]


def test_each_class_is_a_channel_behind_the_image() -> None:
    sample = make_sample()
    shown = ShowPreviousMask(values=(2, 1))(sample)["image"]
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[0], sample["image"][0])
    np.testing.assert_array_equal(shown[1], sample["previous"][0] == 2)
    np.testing.assert_array_equal(shown[2], sample["previous"][0] == 1)


@pytest.mark.parametrize("radius", [1, 2])
def test_classes_grow_and_shrink_by_cubes_as_scipy_has_it(radius: int) -> None:
    sample = make_sample()
    mask, cube = sample["previous"][0] == 1, np.ones((2 * radius + 1,) * 3)

    def grow(inside: Any) -> Any:
        return ndimage.binary_dilation(inside, cube)

    def shrink(inside: Any) -> Any:
        return ndimage.binary_erosion(inside, cube, border_value=1)

    expected = {"grow": grow(mask), "shrink": shrink(mask), "open": grow(shrink(mask)), "close": shrink(grow(mask))}
    for operation, inside in expected.items():
        shown = change(sample, operation, radius)
        np.testing.assert_array_equal(shown[1] == 1, inside)
        # A voxel has one class at most.
        np.testing.assert_array_equal(shown[2] == 1, (sample["previous"][0] == 2) & ~(inside & ~mask))


def test_a_small_component_goes_and_a_large_one_stays() -> None:
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[0, :6] = 1  # more than 15 % of the patch
    mask[0, 8, 1, 1] = mask[0, 10, 8, 8] = 1
    sample = {"image": np.zeros((1, *SIZE), np.float32), "previous": mask}
    first, second = change(sample, removed=0.0)[1], change(sample, removed=0.99)[1]
    assert first.sum() == second.sum() == mask.sum() - 1
    assert (first[8, 1, 1], second[10, 8, 8]) == (0, 0)


def test_tensors_become_what_arrays_become() -> None:
    show = ShowPreviousMask(values=(1, 2), disturbance=1.0)
    samples = [make_sample(seed) for seed in range(24)]
    draws = [show.draw(sample, np.random.default_rng(seed)) for seed, sample in enumerate(samples)]
    assert any(drawn["operations"][0] for drawn in draws)
    assert any(drawn["removed"][0] >= 0 for drawn in draws)
    fields = {name: [torch.from_numpy(sample[name]) for sample in samples] for name in ("image", "previous")}
    batch = show.apply_tensors(TensorBatch(fields, torch.device("cpu")), draws)
    expected = np.stack([show.apply(sample, drawn)["image"] for sample, drawn in zip(samples, draws, strict=True)])
    np.testing.assert_array_equal(np.asarray(batch.fields["image"]), expected)


def test_validation_shows_the_mask_as_it_is_and_training_changes_it() -> None:
    step = Component(name="ShowPreviousMask", args={"field": "image", "values": [1, 2]})
    assert len(Chain.build([step]).head) == 1
    disturbed = Chain.build([Component(name=step.name, args={**step.args, "disturbance": 1.0})])
    sample = make_sample()
    plain = Chain.build([step]).run_head(sample)["image"]
    shown = [disturbed.run_tail(sample, np.random.default_rng(seed))[0]["image"] for seed in range(40)]
    same = sum(np.array_equal(image, plain) for image in shown)
    # 0.6 x 0.8 of the patches stay as they are.
    assert 10 < same < 30
