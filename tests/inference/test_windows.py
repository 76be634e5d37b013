"""Windows blend as MONAI blends them, the plan follows memory and strides, the accumulator stays one slab thick."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from tests.inference.models import UNET, ThresholdEngine, save_unet, seeded, volume_spec
from voxflow.inference.runtimes import TorchEngine
from voxflow.inference.windows import Blend, plan_windows, slabs


@pytest.mark.parametrize("size", [(40, 33, 21), (16, 16, 8), (9, 50, 8), (17, 16, 30)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_blending_is_monais(size: tuple[int, int, int], overlap: float, blend: Blend, tmp_path) -> None:  # type: ignore[no-untyped-def]
    engine = TorchEngine(save_unet(tmp_path / "model.pt", volume_spec(overlap=overlap)))
    image = np.random.default_rng(1).normal(size=(1, *size)).astype(np.float32)
    plan = plan_windows(size, engine, "windows", blend=blend)
    parts = list(slabs(engine, image, plan))
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(image[None]), (16, 16, 8), 1, seeded(UNET), overlap=overlap, mode=blend
        )
    received = np.concatenate([logits for _, logits in parts], axis=1)
    assert np.abs(received - expected[0].numpy()).max() < 1e-4
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts)][:-1]
    assert parts[-1][0].stop == size[0]


def test_whole_volume_takes_one_window_padded_to_the_divisor() -> None:
    plan = plan_windows((33, 50, 7), ThresholdEngine(volume_spec(divisor=16)))
    assert (plan.count, plan.padded) == (1, (48, 64, 16))


def test_what_exceeds_memory_goes_in_windows() -> None:
    plan = plan_windows((64, 64, 64), ThresholdEngine(), memory_mb=1, bytes_per_voxel=1024)
    assert plan.window == (16, 16, 8)
    assert plan.count > 1


def test_a_network_that_averages_over_its_window_keeps_the_windows_of_its_training() -> None:
    engine = ThresholdEngine()
    engine.is_local = False
    assert plan_windows((40, 40, 40), engine).window == (16, 16, 8)
    assert plan_windows((40, 40, 40), engine, "whole").count == 1


def test_a_file_for_one_size_is_given_that_size() -> None:
    engine = ThresholdEngine()
    engine.smallest = engine.largest = (16, 16, 8)
    plan = plan_windows((20, 16, 4), engine, "whole")
    assert plan.window == (16, 16, 8)
    assert plan.count == 2


def test_no_part_is_thicker_than_a_window() -> None:
    engine = ThresholdEngine()
    image = np.random.default_rng(0).random((1, 200, 20, 9), dtype=np.float32)
    plan = plan_windows(image.shape[1:], engine, "windows")
    parts = list(slabs(engine, image, plan))
    assert max(logits.shape[1] for _, logits in parts) <= plan.window[0]
    whole = np.concatenate([logits for _, logits in parts], axis=1)
    assert np.allclose(whole[1], image[0] - 0.5, atol=1e-5)


def test_padding_is_taken_off_again() -> None:
    engine = ThresholdEngine()
    image = np.random.default_rng(0).random((1, 5, 6, 3), dtype=np.float32)
    ((part, logits),) = slabs(engine, image, plan_windows((5, 6, 3), engine))
    assert (part, logits.shape) == (slice(0, 5), (2, 5, 6, 3))
    assert np.allclose(logits[1], image[0] - 0.5)
