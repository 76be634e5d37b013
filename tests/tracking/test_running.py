"""A run whose process was killed does not stay RUNNING; one whose process lives is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from voxflow.tracking import begin_run, continue_run
from voxflow.tracking.mlflow_tracker import MlflowTracker
from voxflow.tracking.running import hold_backlog, hold_run

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import sys, time
from voxflow.tracking import begin_run, continue_run
with (continue_run(sys.argv[1]) if sys.argv[1:] else begin_run("spleen")) as tracker:
    tracker.log_metrics({"loss": 1.0}, 1)
    print(tracker.run_id, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store whose address no other test has, since MLflow keeps connections by it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def begin_elsewhere(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A process that works on a run, and the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def begin_while_store_is_away(folder: Path) -> subprocess.Popen[str]:
    """A process that could not reach the store when it began."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
        process, run_id = begin_elsewhere()
    assert run_id == ""
    assert len(list((folder / ".voxflow/unsent").iterdir())) == 1
    return process


def list_runs(experiment: str) -> list[tuple[str, float]]:
    """Status and loss of each run."""
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return [(run.info.status, run.data.metrics["loss"]) for run in runs]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def status(run_id: str) -> str:
    from mlflow import MlflowClient

    return str(MlflowClient().get_run(run_id).info.status)


def test_the_next_start_ends_a_run_that_was_killed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process, killed = begin_elsewhere()
    living, alive = begin_elsewhere()
    kill(process)
    with begin_run("another workspace") as tracker:
        assert status(killed) == "KILLED"
        assert status(alive) == "RUNNING"
        assert (
            f"the process of the MLflow run {killed} was killed; the run is ended as KILLED" in capfd.readouterr().err
        )
        assert status(tracker.run_id) == "RUNNING"
    assert status(tracker.run_id) == "FINISHED"
    kill(living)
    # A later stage is killed in the same run: the next stage continues it.
    process, run_id = begin_elsewhere(tracker.run_id)
    assert (run_id, status(run_id)) == (tracker.run_id, "RUNNING")
    kill(process)
    with continue_run(run_id):
        assert status(alive) == "KILLED"
        assert status(run_id) == "RUNNING"
    assert status(run_id) == "FINISHED"
    assert not (folder / ".voxflow").exists()
    assert f"the MLflow run {run_id}" not in capfd.readouterr().err


def test_a_killed_run_of_a_folder_that_was_moved_is_ended(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, killed = begin_elsewhere()
    kill(process)
    moved = tmp_path_factory.mktemp("moved") / "new"
    folder.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    with begin_run("spleen"):
        assert status(killed) == "KILLED"
    folder.mkdir()


def test_what_is_no_run_of_this_store_stays(folder: Path) -> None:
    others = folder / ".voxflow/running"
    others.mkdir(parents=True)
    (others / "1.json").write_text('{"run_id": "1", "store": "http://mlflow.hospital"}')
    (others / "2.json").write_text("")
    (others / "3.json").write_text('{"run_id": "3", "store": "sqlite:///mlflow.db"}')
    with begin_run("spleen"):
        pass
    # The third is of this store, which does not know it (any more).
    assert sorted(path.name for path in others.iterdir()) == ["1.json", "2.json"]


def test_a_folder_that_can_not_be_written_stops_no_run(folder: Path) -> None:
    (folder / ".voxflow").write_text("no folder")
    with hold_run("sqlite:///mlflow.db", "1"):
        pass
    with begin_run("spleen") as tracker:
        pass
    assert status(tracker.run_id) == "FINISHED"


def test_what_a_living_process_keeps_for_later_is_not_sent_by_another(folder: Path) -> None:
    process = begin_while_store_is_away(folder)
    with begin_run("another workspace"):
        pass
    assert list_runs("spleen") == []
    process.send_signal(signal.SIGINT)
    process.communicate()
    with begin_run("another workspace"):
        pass
    assert list_runs("spleen") == [("KILLED", 1.0)]
    assert not list((folder / ".voxflow").rglob("*.*"))


def test_a_killed_process_that_never_reached_the_store_leaves_no_run_that_goes_on(folder: Path) -> None:
    process = begin_while_store_is_away(folder)
    kill(process)
    with begin_run("another workspace"):
        pass
    assert list_runs("spleen") == [("KILLED", 1.0)]


def test_a_store_that_fails_while_it_gets_what_is_old_does_not_lose_the_new_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    record_entry, entries = MlflowTracker.record_entry, []

    def fail_once(tracker: MlflowTracker, entry: dict[str, Any]) -> None:
        entries.append(entry)
        if len(entries) == 1:
            raise OSError("database is locked")
        record_entry(tracker, entry)

    kill(begin_while_store_is_away(folder))
    monkeypatch.setattr(MlflowTracker, "record_entry", fail_once)
    with begin_run("another workspace") as tracker:
        tracker.log_metrics({"loss": 2.0})
    assert "could not be sent yet: database is locked" in capfd.readouterr().err
    assert list_runs("another workspace") == [("FINISHED", 2.0)]
    with begin_run("another workspace") as tracker:
        tracker.log_metrics({"loss": 3.0})
    assert list_runs("spleen") == [("KILLED", 1.0)]


def test_locks_are_had_though_others_remove_their_folder(folder: Path) -> None:
    def hold(name: str) -> list[bool]:
        answers = []
        for _ in range(1000):
            with hold_backlog(folder / f"{name}.jsonl") as is_held:
                answers.append(is_held)
        return answers

    with ThreadPoolExecutor(3) as pool:
        assert all(all(answers) for answers in pool.map(hold, "abc"))
    with hold_backlog(folder / "a.jsonl"), hold_backlog(folder / "a.jsonl") as is_held:
        assert not is_held
    assert not (folder / ".voxflow").exists()
