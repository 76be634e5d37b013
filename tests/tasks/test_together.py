"""Real trainings at once give what each gives alone; of two of one workspace, the second waits and finds it done."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from tasks.ops.repro import Outcome, Reproducer
from tests.flows.repository import environment
from tests.tasks.cubes import write_cubes
from tests.tasks.repository_of_cubes import make_cubes_repository
from voxflow.tracking import read_run_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

BOTH = ("left", "right")
ROOT = Path(__file__).resolve().parents[2]


def train_both(root: Path, *names: str) -> list[tuple[Outcome, list[str]]]:
    """Train workspaces of one repository at once, each by a DVC of its own."""

    def one(name: str) -> tuple[Outcome, list[str]]:
        lines: list[str] = []
        with Reproducer(root) as reproducer:
            return reproducer.run(f"train@{name}", force=False, say=lines.append), lines

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(one, names))


@pytest.fixture(scope="module", autouse=True)
def _packages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_cubes_repository(tmp_path_factory.mktemp("alone") / "repository", *BOTH)
    for name in BOTH:
        train_both(root, name)
    return root


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_cubes_repository(tmp_path_factory.mktemp("at_once") / "repository", *BOTH)
    assert [outcome.verdict for outcome, _ in train_both(root, *BOTH)] == ["ran", "ran"]
    return root


def read_curves(root: Path, name: str) -> dict[str, list[tuple[int, float]]]:
    """What MLflow's store holds of a workspace's run: steps and values by metric; the machine's own are left out."""
    run = read_run_file(root / f"mmars/{name}/models/train/run.json")
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        assert store.execute("SELECT status FROM runs WHERE run_uuid = ?", (run,)).fetchall() == [("FINISHED",)]
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step"
        curves: dict[str, list[tuple[int, float]]] = {}
        for key, step, value in store.execute(query, (run,)):
            if not key.startswith("system/"):
                curves.setdefault(key, []).append((step, value))
    return curves


def weights(root: Path, name: str, file: str) -> dict[str, Any]:
    content = torch.load(root / f"mmars/{name}/models/train/{file}", weights_only=True, map_location="cpu")
    return dict(tensors(content))


def tensors(content: Any, place: str = "") -> Any:
    if isinstance(content, torch.Tensor):
        yield place, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from tensors(value, f"{place}/{key}")


@pytest.mark.parametrize("name", BOTH)
def test_every_number_of_both_is_recorded_as_of_one_alone(alone: Path, at_once: Path, name: str) -> None:
    expected, actual = read_curves(alone, name), read_curves(at_once, name)
    assert {"train_loss", "validation/mean_dice", "best_validation/mean_dice", "train/steps"} <= set(actual)
    assert {key: [step for step, _ in values] for key, values in actual.items()} == {
        key: [step for step, _ in values] for key, values in expected.items()
    }
    for key in (key for key in actual if "seconds" not in key and "per_second" not in key):
        assert actual[key] == expected[key], key


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("file", ["model.pt", "model_final.pt"])
def test_weights_are_those_of_a_training_alone(alone: Path, at_once: Path, name: str, file: str) -> None:
    expected, actual = weights(alone, name, file), weights(at_once, name, file)
    assert len(expected) > 10
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[place], expected[place]) for place in expected)


def test_the_workspaces_differ(alone: Path) -> None:
    first, second = (weights(alone, name, "model.pt") for name in BOTH)
    assert not all(torch.equal(first[place], second[place]) for place in first)


def test_no_run_was_lost_or_begun_twice(at_once: Path) -> None:
    with closing(sqlite3.connect(at_once / "mlflow.db")) as store:
        assert store.execute("SELECT COUNT(*) FROM runs").fetchone() == (2,)
    assert not list((at_once / ".voxflow").rglob("*.jsonl"))


def test_the_second_of_one_workspace_waits_in_one_line_and_finds_it_done(tmp_path: Path) -> None:
    root = make_cubes_repository(tmp_path / "repository", "one")
    ended = train_both(root, "one", "one")
    assert sorted(outcome.verdict for outcome, _ in ended) == ["ran", "unchanged"]
    output = next(lines for outcome, lines in ended if outcome.verdict == "unchanged")
    waiting = [line for line in output if "another DVC process" in line]
    assert waiting == ["train@one: another DVC process is in the way, waiting for it"]
    assert not any("ERROR" in line for line in output)
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]


def test_two_programs_of_one_workspace_take_turns(tmp_path: Path) -> None:
    """By hand, without DVC or a flow between them: each trains, one after the other, and the folder is one's."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"workspaces": {"cubes": write_cubes(tmp_path)}}))
    command = [sys.executable, "-m", "tasks.train", "cubes"]
    variables = environment() | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    programs = [
        subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    lines = [program.communicate(timeout=1200)[1] for program in programs]
    assert [program.returncode for program in programs] == [0, 0], lines
    waits = [re.search(r"cubes is being written by process (\d+) \(train cubes, since ", line) for line in lines]
    (waiting,) = [number for number, match in enumerate(waits) if match]
    match = waits[waiting]
    assert match is not None
    assert int(match[1]) == programs[1 - waiting].pid
    runs = set()
    for line in lines:
        assert "epoch 2: loss" in line
        runs.add(re.search(r"best mean_dice \S+", line)[0])  # type: ignore[index]
    assert len(runs) == 1
