"""One stage through DVC: what came of it, what a failure means, and waiting for whoever is in the way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tasks.ops.repro import Reproducer, StageError
from tests.flows.repository import environment, make_repository
from tests.tasks.test_leash import assert_gone, wait_for_pids
from voxflow.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_WRONG_INPUT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


def quiet(_line: str) -> None:
    """Nothing needs to be said."""


def test_a_stage_runs_once_and_then_has_not_changed(repository: Path) -> None:
    lines: list[str] = []
    with Reproducer(repository) as reproducer:
        reproducer.run("sample@spleen_demo", force=False, say=quiet)
        assert reproducer.run("left@spleen_demo", force=False, say=lines.append).verdict == "ran"
        assert reproducer.run("left@spleen_demo", force=False, say=quiet).verdict == "unchanged"
        (repository / "spleen_demo-left").unlink()
        assert reproducer.run("left@spleen_demo", force=False, say=quiet).verdict == "from cache"
        assert reproducer.run("left@spleen_demo", force=True, say=quiet).verdict == "ran"
    assert lines[0] == "Running stage 'left@spleen_demo':"
    assert not any("git add" in line for line in lines)


@pytest.mark.parametrize(
    ("address", "reason", "code", "killed"),
    [
        ("wrong@bad", "wrong bad: error: no such thing", EXIT_WRONG_INPUT, False),
        ("right@spleen_demo", "right@spleen_demo: killed by signal 9", EXIT_FAILURE, True),
        ("nosuch@bad", "nosuch@bad: .*not found", EXIT_WRONG_INPUT, False),
        ("after@bad", "after@bad: .*bad-wrong", EXIT_WRONG_INPUT, False),
    ],
)
def test_a_failure_says_its_reason_and_kind(
    repository: Path, address: str, reason: str, code: int, killed: bool
) -> None:
    (repository / "spleen_demo-raw").write_text("one")
    with Reproducer(repository) as reproducer, pytest.raises(StageError, match=reason) as caught:
        reproducer.run(address, force=False, say=quiet)
    assert (caught.value.exit_code, caught.value.killed) == (code, killed)


def test_a_stage_waits_for_another_dvc_process(repository: Path) -> None:
    (repository / "spleen_demo-raw").write_text("one")
    graph = repository / "dvc.yaml"
    graph.write_text(graph.read_text().replace("sleep 1;", "until [ -e go ]; do sleep 0.1; done;"))
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "left@spleen_demo"]
    lines: list[str] = []

    def let_it_end(line: str) -> None:
        lines.append(line)
        (repository / "go").touch()

    with subprocess.Popen(command, cwd=repository, env=environment(), stdout=subprocess.PIPE, text=True) as dvc:
        assert dvc.stdout is not None
        dvc.stdout.readline()
        with Reproducer(repository) as reproducer:
            outcome = reproducer.run("left@spleen_demo", force=False, say=let_it_end)
        dvc.communicate()
    assert outcome.verdict == "unchanged"
    assert lines[0] == "left@spleen_demo: another DVC process is in the way, waiting for it"
    assert not any("rwlock" in line or "busy" in line for line in lines)


def test_stopping_ends_the_stage_that_runs(repository: Path) -> None:
    errors: list[StageError] = []
    reproducer = Reproducer(repository)

    def work() -> None:
        with pytest.raises(StageError, match="stopped") as caught:
            reproducer.run("slow@endless", force=False, say=quiet)
        errors.append(caught.value)

    thread = threading.Thread(target=work)
    thread.start()
    pids = wait_for_pids(repository / "slow.pid")
    begun = time.monotonic()
    reproducer.stop()
    thread.join(20)
    assert_gone(pids)
    assert time.monotonic() - begun < 20
    assert errors[0].exit_code == EXIT_INTERRUPTED
