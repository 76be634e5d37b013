"""Experiments of DVC, in the workspace and in copies of it, are runs of the one MLflow store, below their commit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.tasks.repository_of_cubes import commit, make_cubes_repository, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

EPOCHS = "workspaces.cubes.train.set.epochs"
IN_PLACE, IN_COPIES = ("swift-here",), ("calm-copy", "queue-one", "queue-two")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = make_cubes_repository(tmp_path_factory.mktemp("experiments") / "repository", "cubes")
    run(root, "dvc", "repro")
    commit(root)
    run(root, "dvc", "exp", "run", "--name", "swift-here", "-S", f"{EPOCHS}=1")
    run(root, "dvc", "exp", "run", "--temp", "--name", "calm-copy", "-S", f"{EPOCHS}=3")
    run(root, "dvc", "exp", "run", "--queue", "--name", "queue-one", "-S", f"{EPOCHS}=4")
    run(root, "dvc", "exp", "run", "--queue", "--name", "queue-two", "-S", f"{EPOCHS}=5")
    run(root, "dvc", "exp", "run", "--run-all", "--jobs", "2")
    yield root
    # On a busy machine, DVC 3.67's workers may wait for ever once their queue is empty.
    for file in (root / ".dvc/tmp/exps/celery").glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGTERM)


def read_runs(root: Path) -> dict[str, dict[str, str]]:
    """Tags, parameters and status of every run by its name."""
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        runs = {}
        for run_id, name, status in store.execute("SELECT run_uuid, name, status FROM runs"):
            tags = store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)).fetchall()
            params = store.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)).fetchall()
            runs[name] = dict(tags) | dict(params) | {"id": run_id, "status": status}
    return runs


@pytest.mark.parametrize(("name", "epochs"), [("swift-here", 1), ("calm-copy", 3), ("queue-one", 4), ("queue-two", 5)])
def test_an_experiment_is_one_run_of_its_name_and_numbers(repository: Path, name: str, epochs: int) -> None:
    experiment = read_runs(repository)[name]
    assert experiment["status"] == "FINISHED"
    assert experiment["dvc_exp"] == name
    assert experiment["dvc_exp_baseline"] == run(repository, "git", "rev-parse", "HEAD").strip()
    assert experiment["train.set.epochs"] == str(epochs)
    with closing(sqlite3.connect(repository / "mlflow.db")) as store:
        query = "SELECT MAX(step) FROM metrics WHERE run_uuid = ? AND key = 'train_loss'"
        assert store.execute(query, (experiment["id"],)).fetchone() == (epochs,)


def test_experiments_stand_below_their_commit_and_the_training_of_the_commit_by_itself(repository: Path) -> None:
    runs = read_runs(repository)
    above = [entry for name, entry in runs.items() if name.startswith("experiments on ")]
    assert len(above) == 1
    assert {entry.get("mlflow.parentRunId") for name, entry in runs.items() if name in {*IN_PLACE, *IN_COPIES}} == {
        above[0]["id"]
    }
    assert len(runs) == 6
    assert sum("mlflow.parentRunId" in entry for entry in runs.values()) == 4


def test_dvc_lists_the_same_experiments_and_leaves_no_store_behind(repository: Path) -> None:
    revisions = json.loads(run(repository, "dvc", "exp", "show", "--json"))
    names = {experiment["name"] for revision in revisions for experiment in revision.get("experiments") or []}
    assert names == {*IN_PLACE, *IN_COPIES}
    assert list(repository.rglob("mlflow.db")) == [repository / "mlflow.db"]
    assert not list((repository / ".voxflow").rglob("*.jsonl"))


def test_an_applied_experiment_leads_to_its_run(repository: Path) -> None:
    run(repository, "dvc", "exp", "apply", "calm-copy")
    run_file = json.loads((repository / "mmars/cubes/models/train/run.json").read_text())
    assert run_file == {
        "run_id": read_runs(repository)["calm-copy"]["id"],
        "experiment": "cubes",
        "tracking_uri": "sqlite:///mlflow.db",
    }
