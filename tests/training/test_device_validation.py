"""Validation whose masks are counted where the network is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.training.conftest import volume_config, workflow_of
from voxflow.components import ComputeAverageDice
from voxflow.training import TrainOptions
from voxflow.training.device import pays_to_compile, start_gpu
from voxflow.training.plan import TrainingPlan
from voxflow.training.validation import has_counts_alone, validate

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.training import DataFacts


@pytest.mark.parametrize("remove_bg", [True, False])
@pytest.mark.parametrize(
    ("classes", "channels", "activation"),
    [(3, 1, "softmax"), (1, 1, "softmax"), (1, 1, "sigmoid"), (3, 3, "softmax"), (3, 3, "sigmoid"), (4, 1, "sigmoid")],
)
def test_counts_say_what_the_metric_says(classes: int, channels: int, activation: str, remove_bg: bool) -> None:
    rng = np.random.default_rng(classes + channels)
    metric = ComputeAverageDice(name="dice", remove_bg=remove_bg, logit_thresh=0.4)
    logits = rng.normal(size=(2, classes, 6, 5, 4)).astype(np.float32)
    label = (
        rng.integers(0, max(classes, 2) - 1, (2, 1, 6, 5, 4))  # the last class is in no label
        if channels == 1
        else rng.random((2, channels, 6, 5, 4)) < 0.4
    ).astype(np.uint8)
    label[0, -1] = 0
    expected = metric.measure({"model": logits, "label": label, "activation": activation})
    pairs = zip(torch.from_numpy(logits), torch.from_numpy(label), strict=True)
    rows = [metric.score_overlaps(metric.count_overlaps(*pair, activation).numpy()) for pair in pairs]
    np.testing.assert_array_equal(np.concatenate(rows), expected)


@pytest.fixture
def plan(tmp_path: Path, facts: DataFacts) -> TrainingPlan:
    return TrainingPlan.build(workflow_of(volume_config(), tmp_path), facts)


def make_store() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    shapes = [(20, 18, 16), (16, 12, 24)]
    return [
        {
            "case": str(n),
            "image": rng.normal(size=(1, *shape)).astype(np.float32),
            "label": (rng.random((1, *shape)) < 0.3).astype(np.uint8),
        }
        for n, shape in enumerate(shapes)
    ]


class Cpu:
    device = torch.device("cpu")

    @staticmethod
    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=False)


def test_a_validation_says_the_same_wherever_masks_are_counted(plan: TrainingPlan) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    expected = validate(network, make_store(), plan, Cpu)
    assert has_counts_alone(plan)
    assert 0 < expected["mean_dice"] < 1
    assert validate(network, make_store(), plan, Cpu, counts_on_device=True) == expected


def test_a_device_without_room_leaves_the_counting_to_the_processor(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    expected = validate(network, make_store(), plan, Cpu)

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ComputeAverageDice, "count_overlaps", fail)
    assert validate(network, make_store(), plan, Cpu, counts_on_device=True) == expected


def test_what_needs_more_than_counts_is_measured_on_arrays(tmp_path: Path, facts: DataFacts) -> None:
    config = volume_config()
    config["train"]["aux_ops"] = [{"name": "NegLoss"}]
    assert not has_counts_alone(TrainingPlan.build(workflow_of(config, tmp_path), facts))


def test_a_long_training_on_a_gpu_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    gpu, size = torch.device("cuda"), (16, 16, 16)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    # Not by monkeypatch, which deletes torch's option at the end: nothing compiles in this process any more then.
    with config.patch(suppress_errors=False):
        assert not pays_to_compile(TrainOptions(max_minutes=5), gpu, 20_000, size)
        assert not pays_to_compile(TrainOptions(), gpu, 500, size)
        assert not pays_to_compile(TrainOptions(), gpu, 20_000, None)
        assert not pays_to_compile(TrainOptions(deterministic=True), gpu, 20_000, size)
        assert not pays_to_compile(TrainOptions(compile=False), gpu, 20_000, size)
        assert not pays_to_compile(TrainOptions(), torch.device("cpu"), 20_000, size)
        assert pays_to_compile(TrainOptions(compile=True), torch.device("cpu"), 1, None)
        assert pays_to_compile(TrainOptions(), gpu, 20_000, size)
        assert config.suppress_errors
        assert pays_to_compile(TrainOptions(max_minutes=60), gpu, 20_000, size)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    assert not pays_to_compile(TrainOptions(), gpu, 20_000, size)


def test_nothing_is_started_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = SimpleNamespace(benchmark="as it was")
    monkeypatch.setattr(torch.backends, "cudnn", flags)
    start_gpu(torch.device("cpu"), TrainOptions(), fixed_shapes=True)
    assert flags.benchmark == "as it was"
