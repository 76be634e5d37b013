"""Windows blend as MONAI blends them, the plan follows memory and strides, the accumulator stays one slab thick."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from tests.inference.models import UNET, ThresholdEngine, build_seeded, save_unet, volume_spec
from voxflow.engines import TorchEngine
from voxflow.prediction import iterate_slabs
from voxflow.prediction.windows import Blend, plan_windows

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.engines import Engine
    from voxflow.prediction import WindowPlan


def assemble_logits(engine: Engine, image: np.ndarray, plan: WindowPlan) -> np.ndarray:
    """The logits of a whole image, every voxel of it once."""
    logits, times = np.empty((engine.spec.out_channels, *plan.size), np.float32), np.zeros(plan.size, int)
    for box, part in iterate_slabs(engine, image, plan):
        logits[:, *box] = part
        times[box] += 1
    assert (times == 1).all()
    return logits


@pytest.mark.parametrize("size", [(40, 33, 21), (16, 16, 8), (9, 50, 8), (17, 16, 30)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_blending_is_monais(size: tuple[int, int, int], overlap: float, blend: Blend, tmp_path) -> None:  # type: ignore[no-untyped-def]
    engine = TorchEngine(save_unet(tmp_path / "model.pt", volume_spec(overlap=overlap)))
    image = np.random.default_rng(1).normal(size=(1, *size)).astype(np.float32)
    plan = plan_windows(size, engine, "windows", blend=blend)
    received = assemble_logits(engine, image, plan)
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(image[None]), (16, 16, 8), 1, build_seeded(UNET), overlap=overlap, mode=blend
        )
    assert np.abs(received - expected[0].numpy()).max() < 1e-4


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


def test_no_part_is_thicker_than_a_window_along_the_longest_way() -> None:
    engine = ThresholdEngine()
    image = np.random.default_rng(0).random((1, 20, 9, 200), dtype=np.float32)
    plan = plan_windows(image.shape[1:], engine, "windows")
    boxes = [box for box, _ in iterate_slabs(engine, image, plan)]
    assert plan.along == 2
    assert max(box[2].stop - box[2].start for box in boxes) <= plan.window[2]
    assert [box[2].start for box in boxes] == [0, *(box[2].stop for box in boxes)][:-1]
    assert np.allclose(assemble_logits(engine, image, plan)[1], image[0] - 0.5, atol=1e-5)


def test_padding_is_taken_off_again() -> None:
    engine = ThresholdEngine()
    image = np.random.default_rng(0).random((1, 5, 6, 3), dtype=np.float32)
    ((box, logits),) = iterate_slabs(engine, image, plan_windows((5, 6, 3), engine))
    assert (box, logits.shape) == ((slice(0, 5), slice(0, 6), slice(0, 3)), (2, 5, 6, 3))
    assert np.allclose(logits[1], image[0] - 0.5)


@pytest.fixture(scope="module")
def windows_of_an_image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, np.ndarray, WindowPlan, np.ndarray]:
    """An engine, an image, its plan of many windows, and its logits by that plan."""
    engine = TorchEngine(save_unet(tmp_path_factory.mktemp("windows") / "model.pt", volume_spec(overlap=0.5)))
    image = np.random.default_rng(1).normal(size=(1, 50, 34, 21)).astype(np.float32)
    plan = plan_windows(image.shape[1:], engine, "windows")
    return engine, image, plan, assemble_logits(engine, image, plan)


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("half", [False, True])
def test_blocks_and_half_precision_change_no_more_than_rounding(
    blocks: int, half: bool, windows_of_an_image: tuple[Engine, np.ndarray, WindowPlan, np.ndarray]
) -> None:
    engine, image, plan, expected = windows_of_an_image
    received = assemble_logits(engine, image, replace(plan, blocks=blocks, half=half))
    assert np.abs(received - expected).max() < (2e-3 if half else 1e-6) * np.abs(expected).max()


@pytest.mark.parametrize("skip_empty", [False, True])
def test_windows_that_pass_together_are_answered_as_they_are_alone(skip_empty: bool, tmp_path: Path) -> None:
    engine = TorchEngine(save_unet(tmp_path / "model.pt", volume_spec(overlap=0.5)))
    image = np.random.default_rng(1).normal(size=(1, 40, 34, 21)).astype(np.float32)
    image[:, :18] = 0
    alone, together = (
        plan_windows(image.shape[1:], engine, "windows", skip_empty=skip_empty, batch=batch) for batch in (1, 3)
    )
    assert (alone.batch, together.batch) == (1, 3)
    assert np.abs(assemble_logits(engine, image, together) - assemble_logits(engine, image, alone)).max() < 1e-5


def test_as_many_windows_pass_together_as_the_engine_likes_and_memory_allows() -> None:
    engine = ThresholdEngine()
    engine.batch = 4
    image = np.random.default_rng(0).random((1, 40, 33, 21), dtype=np.float32)
    plan = plan_windows(image.shape[1:], engine, "windows")
    assemble_logits(engine, image, plan)
    assert max(shape[0] for shape in engine.shapes) == 4
    assert sum(shape[0] for shape in engine.shapes) == plan.count
    assert plan_windows((16, 16, 20), engine, "windows").batch == 3
    small = plan_windows((40, 33, 21), engine, "windows", memory_mb=1, bytes_per_voxel=128)
    assert small.batch == 3
    assert small.batch * 16 * 16 * 8 * (128 + 4 * 2) + small.sums_bytes(2) <= 1 << 20


def test_sums_go_to_half_precision_and_then_to_blocks_as_the_budget_shrinks() -> None:
    engine = ThresholdEngine(volume_spec(class_names=tuple(map(str, range(100)))))
    sizes = [(m, plan_windows((96, 64, 128), engine, "windows", memory_mb=m, bytes_per_voxel=8)) for m in (64, 16, 8)]
    assert [(plan.half, plan.blocks > 1) for _, plan in sizes] == [(False, False), (True, False), (True, True)]
    assert all(plan.sums_bytes(100) < memory * 2**20 for memory, plan in sizes)


def test_a_local_network_gets_few_large_windows_where_the_whole_does_not_fit() -> None:
    size, memory = (64, 64, 64), 4
    plan = plan_windows(size, ThresholdEngine(), memory_mb=memory, bytes_per_voxel=16)
    assert 1 < plan.count < plan_windows(size, ThresholdEngine(), "windows").count
    assert math.prod(plan.window) * (16 + 4 * 2) + plan.sums_bytes(2) <= memory * 2**20


def test_windows_of_one_value_are_background_where_asked() -> None:
    engine = ThresholdEngine()
    image = np.ones((1, 64, 16, 8), dtype=np.float32)
    image[:, :32] = np.random.default_rng(0).random((1, 32, 16, 8), dtype=np.float32)
    shapes = assemble_logits(engine, image, plan_windows(image.shape[1:], engine, "windows"))
    everything = len(engine.shapes)
    skipped = assemble_logits(engine, image, plan_windows(image.shape[1:], engine, "windows", skip_empty=True))
    assert len(engine.shapes) - everything < everything
    assert np.allclose(skipped[:, :24], shapes[:, :24], atol=1e-5)
    assert (skipped[0, 48:] > skipped[1, 48:]).all()
