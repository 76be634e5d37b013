"""A training killed with -9 at any moment goes on, and ends in the weights of one that never was."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import sys
import threading
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import pytest
import torch

from tests.training.conftest import PLACES as VARIABLES
from tests.training.conftest import volume_config
from tests.training.program import cubes_in
from voxflow.files import write_json
from voxflow.training import DataFacts, TrainOptions, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxflow.datalist import Datalist

OPTIONS = {"accelerator": "cpu", "threads": 1, "workers": 1, "seed": 3, "precision": "fp32", "ema": 0.9}
# Where the process is killed: how often each place is come by in a training of six epochs. How often a model is the
# best one so far depends on how the machine rounds.
PLACES = {"cache": 6, "step": 12, "validation": 3, "state": 6, "final": 1}
NEVER = ("model", sys.maxsize, 1.0)


@pytest.fixture(scope="module")
def starter() -> Any:
    """Starts processes that have torch and MONAI imported already."""
    context = multiprocessing.get_context("forkserver")
    heavy = ["SimpleITK", "lightning_fabric.strategies", "monai.inferers", "monai.losses", "monai.networks.nets"]
    context.set_forkserver_preload([*heavy, "sklearn", "tensorboard.compat.proto.event_pb2", "voxflow.training.losses"])
    return context


def train_here(folder: Path, config: Path, out: Path, cache: Path, moment: tuple[str, int, float] | None) -> None:
    """Train in this process, which is killed at the moment, if one is given."""
    sys.stderr = (out.parent / f"{out.name}.log").open("a")
    from voxflow.config import load_workflow
    from voxflow.tracking import NullTracker
    from voxflow.training import train

    counted = set_trap(*moment) if moment else []
    options = TrainOptions.model_validate(OPTIONS | {"state_epochs": 1, "cache": {"folder": str(cache)}})
    facts = DataFacts(class_names=("background", "cube"))
    workflow = load_workflow(config, overrides=VARIABLES)
    result = train(workflow, cubes_in(folder), options, out, facts=facts, tracker=NullTracker("run7"))
    (out / "continued").write_text(str(result.continued_at))
    (out / "counted").write_text(str(len(counted)))


def set_trap(place: str, turn: int, share: float) -> list[int]:
    """Kill this process while it does something for the ``turn``-th time; ``share`` (0 to 1) says how far it gets.

    Returns:
        A list that grows by one each time.
    """
    from voxflow.training import casefile, loop

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def count_call(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        counted.append(1)
        if len(counted) == turn:
            threading.Timer(share * 0.03, die).start()
        return real(*args, **kwargs)

    def half_written(real: Callable[..., Any], content: Any, stream: IO[bytes]) -> None:
        real(content, stream)
        stream.flush()
        kind = "state" if "optimizer" in content else "final" if math.isnan(content["metric"]) else "model"
        counted.extend([1] * (kind == place))
        if len(counted) == turn:
            stream.truncate(int(stream.tell() * share))
            die()

    counted: list[int] = []
    if place in {"state", "model", "final"}:
        torch.save = partial(half_written, torch.save)
    elif place == "cache":
        casefile.atomic_path = partial(count_call, casefile.atomic_path)  # type: ignore[attr-defined]
    elif place == "validation":
        loop.validate = partial(count_call, loop.validate)  # type: ignore[attr-defined]
    else:
        step = loop.TrainingLoop.step
        loop.TrainingLoop.step = lambda self, *args: count_call(step, self, *args)  # type: ignore[method-assign]
    return counted


def weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in read_checkpoint(path)["state_dict"].values()])


class Trial:
    """One reference training, and others that are killed and continued."""

    def __init__(self, starter: Any, cubes: Datalist, folder: Path) -> None:
        self.starter, self.cubes, self.folder = starter, cubes, folder
        config = volume_config() | {"epochs": 6}
        config["train"]["model"]["args"]["dropout"] = 0.1  # so that torch's generator counts, too
        write_json(folder / "config_train.json", config)
        assert self.run("whole", NEVER) == 0
        places = PLACES | {"model": int((folder / "whole/counted").read_text())}
        self.moments = [(place, turn) for place, count in places.items() for turn in range(1, count + 1)]

    def run(self, name: str, moment: tuple[str, int, float] | None) -> int:
        cache = self.folder / f"{name}-cache"
        arguments = (self.cubes.root, self.folder / "config_train.json", self.folder / name, cache, moment)
        process = self.starter.Process(target=train_here, args=arguments)
        process.start()
        process.join(500)  # a machine may be busy; a hang is what this is for
        assert process.exitcode is not None
        return int(process.exitcode)

    def kill_and_continue(self, place: str, turn: int, share: float) -> None:
        name = f"{place}{turn}"
        assert self.run(name, (place, turn, share)) == -signal.SIGKILL
        assert self.run(name, None) == 0, (self.folder / f"{name}.log").read_text()
        for file in ("model.pt", "model_final.pt"):
            assert torch.equal(weights(self.folder / name / file), weights(self.folder / "whole" / file)), (name, share)
        remaining = {path.name for path in (self.folder / name).iterdir()}
        assert "state.pt" not in remaining


def test_three_moments(starter: Any, cubes: Datalist, tmp_path: Path) -> None:
    trial = Trial(starter, cubes, tmp_path)
    for place, turn in (("cache", 3), ("state", 4), ("step", 9)):
        trial.kill_and_continue(place, turn, 0.6)
    assert int((tmp_path / "step9" / "continued").read_text()) > 0


@pytest.mark.slow
def test_twenty_random_moments(starter: Any, cubes: Datalist, tmp_path: Path) -> None:
    trial = Trial(starter, cubes, tmp_path)
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    for place, turn in chance.sample(trial.moments, 20):
        trial.kill_and_continue(place, turn, chance.random())
