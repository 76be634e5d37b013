"""What can be asked of the loop: larger steps, averages, early ends, and going on when something is in the way."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.tables import read_table
from tests.training.conftest import volume_config, workflow_of
from voxflow.components import Chain
from voxflow.errors import ConfigError, DataError
from voxflow.tracking import NullTracker
from voxflow.training import TrainOptions, load_model, read_checkpoint, train
from voxflow.training.ema import WeightAverage
from voxflow.training.meter import LossMeter, LossNotFinite
from voxflow.training.state import STATE, read_state, save_state
from voxflow.training.stopping import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from voxflow.datalist import Datalist
    from voxflow.training import DataFacts
    from voxflow.training.result import TrainingResult


@pytest.fixture
def training(tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions) -> Callable[..., TrainingResult]:
    """Train the cubes into ``tmp_path``/NAME with options and places of the configuration changed."""

    def run(name: str = "m", places: dict[str, Any] | None = None, **changed: Any) -> TrainingResult:
        workflow = workflow_of(volume_config(), tmp_path, **{"epochs": 2, **(places or {})})
        run_options = TrainOptions.model_validate(options.model_dump() | {"precision": "fp32"} | changed)
        return train(workflow, cubes, run_options, tmp_path / name, facts=facts, tracker=NullTracker())

    return run


def weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in read_checkpoint(path)["state_dict"].values()])


def test_two_batches_that_add_up_are_one_of_twice_the_size(tmp_path: Path, training: Any) -> None:
    batch = "train.image_pipeline.args.output_batch_size"
    added = training("added", {batch: 2}, accumulate=2)
    large = training("large", {batch: 4})
    assert added.steps == large.steps == 2
    torch.testing.assert_close(
        weights(tmp_path / "added/model_final.pt"), weights(tmp_path / "large/model_final.pt"), rtol=1e-3, atol=1e-5
    )


def test_a_clipped_gradient_moves_plain_descent_less(tmp_path: Path, training: Any) -> None:
    training("free")
    training("clipped", clip_norm=1e-6)
    assert not torch.equal(weights(tmp_path / "free/model_final.pt"), weights(tmp_path / "clipped/model_final.pt"))


@pytest.mark.parametrize("optimizer", ["AdamW", "NovoGrad"])
def test_a_scaled_loss_has_its_gradients_clipped_as_they_are(tmp_path: Path, training: Any, optimizer: str) -> None:
    """Fabric refuses to clip for an optimizer that is fused and takes scaled gradients, as torch's are."""
    place = {"train.optimizer.name": optimizer}
    training("free", place, precision="fp16")
    training("wide", place, precision="fp16", clip_norm=1e6)
    training("clipped", place, precision="fp16", clip_norm=1e-6)
    free, wide, clipped = (weights(tmp_path / name / "model_final.pt") for name in ("free", "wide", "clipped"))
    torch.testing.assert_close(wide, free)
    assert not torch.equal(clipped, free)


def test_the_average_of_the_weights_is_what_is_kept(tmp_path: Path, training: Any) -> None:
    plain = training("plain")
    averaged = training("averaged", ema=0.999)
    assert averaged.steps == plain.steps
    assert not torch.equal(weights(tmp_path / "plain/model_final.pt"), weights(tmp_path / "averaged/model_final.pt"))


@pytest.mark.parametrize(("keep", "is_last"), [("best", False), ("last", True), ("auto", True)])
def test_the_last_state_is_kept_where_few_cases_would_choose(
    training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, is_last: bool
) -> None:
    scores = iter([0.9, 0.2, 0.4])
    monkeypatch.setattr("voxflow.training.loop.validate", lambda *_, **__: {"mean_dice": next(scores)})
    result = training(places={"epochs": 3, "num_training_epoch_per_valid": 1}, keep=keep)
    checkpoint = read_checkpoint(tmp_path / "m/model.pt")
    assert (result.best_epoch, result.best_metric) == (checkpoint["epoch"], checkpoint["metric"])
    assert (result.best_epoch, result.best_metric) == ((3, 0.4) if is_last else (1, 0.9))
    final = weights(tmp_path / "m/model_final.pt")
    assert torch.equal(weights(tmp_path / "m/model.pt"), final) == is_last
    assert f"{'last' if is_last else 'best'} mean_dice" in result.summary()


def test_an_average_follows_its_formula() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.9)
    expected = network.weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            network.weight.fill_(step)
        average.update(network, step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    torch.testing.assert_close(average.network.state_dict()["weight"], expected)


@pytest.mark.parametrize("decay", [1.5, 0, 1, True, "poly"])
def test_a_decay_that_is_none_is_refused_in_one_line(decay: Any) -> None:
    with pytest.raises(ValidationError, match="a decay between 0 and 1, or polynomial") as caught:
        TrainOptions.model_validate({"ema": decay})
    assert caught.value.error_count() == 1


def test_a_polynomial_average_counts_steps_by_their_third_power() -> None:
    network = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    average = WeightAverage(network, "polynomial")
    generator = np.random.default_rng(0)
    values = generator.normal(size=500)
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network, step)
    numbers = np.arange(1, 501)
    shares = numbers * (numbers + 1) * (numbers + 2)
    assert average.network.state_dict()["weight"].item() == pytest.approx(np.average(values, weights=shares), rel=1e-9)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_the_same(training: Any, tmp_path: Path, precision: str) -> None:
    losses = [
        [float(row["train_loss"]) for row in read_table(tmp_path / name / "curves.csv")]
        for name, run_precision in (("full", "fp32"), ("half", precision))
        if training(name, {"epochs": 4}, precision=run_precision)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_loss_scale_is_part_of_the_state(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, Any]] = []
    monkeypatch.setattr("voxflow.training.loop.save_state", lambda _, state: states.append(state))
    training(precision="fp16")
    assert states[-1]["precision"]["scale"] > 1


def test_without_improvement_it_ends_early(training: Any) -> None:
    places = {"epochs": 40, "learning_rate": 1e-9, "num_training_epoch_per_valid": 1}
    result = training(places=places, early_stopping=3)
    assert result.ending == "no more improvement"
    assert result.epochs < 40


def test_a_stopping_metric_that_is_not_there_is_a_config_error(training: Any) -> None:
    with pytest.raises(ConfigError, match="stopping_metric: no metric 'dize'; there are mean_dice"):
        training(stopping_metric="dize")


def test_patience_counts_from_the_best() -> None:
    patience = Patience(2)
    for value, over in ((np.nan, False), (0.5, False), (0.4, False), (0.6, False), (0.6, False), (np.nan, True)):
        patience.note(float(value))
        assert patience.is_over is over
    assert patience.best == 0.6


def test_a_compiled_network_keeps_its_names(training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    training(compile=True)
    assert compiled == ["UNet"]
    load_model(tmp_path / "m/model_final.pt")


@contextmanager
def little_room() -> Iterator[None]:
    """No file of this process may grow beyond 4 kB, as on a full disk; the tests' own log neither, so be short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_state_a_warning_and_keeps_the_older_one(
    training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    calls: list[int] = []

    def later_full(path: Path, state: dict[str, Any]) -> None:
        calls.append(state["epoch"])
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        save_state(path, state)

    monkeypatch.setattr("voxflow.training.loop.save_state", later_full)
    result = training(places={"epochs": 3}, state_epochs=1)
    assert result.ending == "finished"
    assert "warning: state.pt could not be written, training goes on: [Errno 28]" in capsys.readouterr().err


def test_a_final_model_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    from voxflow.torch_files import save_torch

    with pytest.raises(OSError, match=r"File too large|could not be written"), little_room():
        save_torch(tmp_path / "model.pt", {"x": torch.zeros(100_000)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("skip", [True, False])
def test_a_case_whose_random_transforms_fail_is_named(
    training: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, skip: bool
) -> None:
    run_tail = Chain.run_tail

    def broken(self: Chain, sample: dict[str, Any], *arguments: Any, **keywords: Any) -> list[dict[str, Any]]:
        if sample["case"] == "cube1":
            raise ValueError("no such axis")
        return run_tail(self, sample, *arguments, **keywords)

    monkeypatch.setattr(Chain, "run_tail", broken)
    if not skip:
        with pytest.raises(DataError, match="case cube1: ValueError: no such axis"):
            training()
        return
    assert training(on_bad_case="skip").ending == "finished"
    assert "case cube1: ValueError: no such axis; another case takes its place" in capsys.readouterr().err


def test_a_case_that_can_not_be_read_is_left_out_when_that_is_allowed(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    first, *good = cubes.parts["training"]
    bad = replace(first, image=(tmp_path / "broken.nii.gz",))
    datalist = replace(cubes, parts={**cubes.parts, "training": (bad, *good)})
    workflow = workflow_of(volume_config(), tmp_path, epochs=1)
    with pytest.raises(DataError, match=r"broken.nii.gz"):
        train(workflow, datalist, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    skipping = options.model_copy(update={"on_bad_case": "skip"})
    result = train(workflow, datalist, skipping, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert result.steps == 2
    assert "warning: left out: case cube0:" in capsys.readouterr().err


def test_a_loss_meter_remembers_what_was_not_finite() -> None:
    meter = LossMeter()
    meter.add(torch.tensor(1.0), "a")
    meter.add(torch.tensor(3.0), "b")
    assert (meter.total, meter.count) == (4.0, 2)
    with pytest.raises(LossNotFinite) as caught:
        meter.add(torch.tensor(float("inf")), "c")
    assert caught.value.place == "c"


def test_a_time_budget_counts_what_ran_before(training: Any, tmp_path: Path) -> None:
    training(places={"epochs": 3}, max_minutes=1e-6)
    assert read_state(tmp_path / "m" / STATE) is None


def test_a_schedule_by_minutes_runs_its_whole_course_in_them(tmp_path: Path, training: Any) -> None:
    result = training(places={"epochs": 100_000}, max_minutes=0.05, schedule="minutes")
    assert (result.ending, result.epochs < 100_000) == ("time is up", True)
    rates = [float(row["learning_rate"]) for row in read_table(tmp_path / "m/curves.csv")]
    peak = 0.02
    assert max(rates) > 0.3 * peak
    assert rates[-1] < 0.05 * peak


def test_a_schedule_by_minutes_needs_minutes() -> None:
    with pytest.raises(ValueError, match="schedule: minutes needs max_minutes"):
        TrainOptions(schedule="minutes")
