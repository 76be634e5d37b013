"""Killed runs go on where they were, and end where they would have ended."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.tables import read_table
from tests.training.conftest import volume_config, workflow_of
from tests.training.test_loop import Listener
from voxflow.tracking import NullTracker
from voxflow.training import TrainOptions, find_unfinished_run, read_checkpoint, train
from voxflow.training.state import STATE, get_random_state, read_state, restore_random_state, save_state

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.config import Workflow
    from voxflow.datalist import Datalist
    from voxflow.training import DataFacts


def config(tmp_path: Path, **overrides: Any) -> Workflow:
    """Dropout draws from torch's generator, so its state counts, too."""
    return workflow_of(volume_config(), tmp_path, **{"train.model.args.dropout": 0.1, **overrides})


def train_interrupted(
    workflow: Workflow, cubes: Datalist, options: TrainOptions, out: Path, facts: DataFacts
) -> TrainOptions:
    """Train until a signal comes in the third of six epochs."""
    result = train(workflow, cubes, options, out, facts=facts, tracker=Listener("run7", signal_at=2))
    assert (result.ending, result.epochs) == ("interrupted", 3)
    return options


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


@pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 1}, {"augment_on": "device", "gpu_cache_mb": 1}])
def test_an_interrupted_run_ends_in_the_same_weights_bit_for_bit(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions, *, changes: dict[str, Any]
) -> None:
    workflow = config(tmp_path)
    options = options.model_copy(update=changes)
    whole = train(workflow, cubes, options, tmp_path / "whole", facts=facts, tracker=NullTracker())
    train_interrupted(workflow, cubes, options, tmp_path / "m", facts)
    torch.manual_seed(99)
    continued = train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert continued.continued_at == 5
    assert (continued.steps, continued.best_metric, continued.train_loss) == (
        whole.steps,
        whole.best_metric,
        whole.train_loss,
    )
    for name in ("model.pt", "model_final.pt"):
        expected, resumed = weights(tmp_path / "whole" / name), weights(tmp_path / "m" / name)
        assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert [row["mean_dice"] for row in read_table(tmp_path / "m" / "curves.csv")] == [
        row["mean_dice"] for row in read_table(tmp_path / "whole" / "curves.csv")
    ]
    assert not (tmp_path / "m" / STATE).exists()


def test_the_run_to_continue_is_known_before_training(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions
) -> None:
    workflow, out = config(tmp_path), tmp_path / "m"
    assert find_unfinished_run(workflow, cubes, options, out, facts=facts) is None
    train_interrupted(workflow, cubes, options, out, facts)
    assert find_unfinished_run(workflow, cubes, options, out, facts=facts) == "run7"
    for change in ({"seed": 4}, {"freeze": ("model.0.*",)}, {"resume": False}):
        changed = options.model_copy(update=change)
        assert find_unfinished_run(workflow, cubes, changed, out, facts=facts) is None
    for harmless in ({"workers": 1}, {"threads": 2}, {"max_minutes": 5.0}):
        changed = options.model_copy(update=harmless)
        assert find_unfinished_run(workflow, cubes, changed, out, facts=facts) == "run7"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"learning_rate": 0.01}, "had different configuration: starting afresh"),
        ({}, "continuing the run in .* at epoch 3, batch 2"),
    ],
)
def test_what_becomes_of_an_unfinished_run_is_said(
    tmp_path: Path,
    cubes: Datalist,
    facts: DataFacts,
    options: TrainOptions,
    *,
    change: dict[str, Any],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_interrupted(config(tmp_path), cubes, options, tmp_path / "m", facts)
    capsys.readouterr()
    train(config(tmp_path, **change), cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    lines = capsys.readouterr().err
    assert re.search(expected, lines)


def test_a_complete_run_is_not_continued(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = config(tmp_path, epochs=1)
    first = train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    again = train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert f"the run in {tmp_path / 'm'} is complete: starting afresh" in capsys.readouterr().err
    assert (again.continued_at, again.steps) == (0, first.steps)


def test_changed_data_is_a_different_run(
    tmp_path: Path, cubes: Datalist, facts: DataFacts, options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = config(tmp_path)
    train_interrupted(workflow, cubes, options, tmp_path / "m", facts)
    fewer = replace(cubes, parts={**cubes.parts, "training": cubes.parts["training"][:3]})
    train(workflow, fewer, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert "had different data: starting afresh" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_a_damaged_state_costs_a_warning_and_no_more(
    tmp_path: Path,
    cubes: Datalist,
    facts: DataFacts,
    options: TrainOptions,
    *,
    content: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / STATE).write_bytes(content)
    result = train(config(tmp_path, epochs=1), cubes, options, tmp_path / "m", facts=facts, tracker=NullTracker())
    assert result.ending == "finished"
    assert "state.pt can't be read, so the run is not continued" in capsys.readouterr().err


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    save_state(tmp_path / STATE, {"fingerprint": {}, "random": get_random_state()})
    expected = draw()
    draw()
    state = read_state(tmp_path / STATE)
    assert state is not None
    restore_random_state(state["random"])
    assert draw() == expected


def test_an_older_state_outlives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / STATE, {"epoch": 1})

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"state.pt: could not be written"):
        save_state(tmp_path / STATE, {"epoch": 2})
    state = read_state(tmp_path / STATE)
    assert state is not None
    assert state["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
