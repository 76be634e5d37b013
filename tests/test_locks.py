"""One process at a time writes to a workspace: the second waits and says for whom, and the dead hold nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from voxflow import locks
from voxflow.errors import VoxflowError
from voxflow.locks import hold_file, hold_outputs, hold_workspace, try_lock

ROOT = Path(__file__).resolve().parents[1]
# Takes a lock, says so, and holds it until its standard input is closed. With "then", starts itself as a child first.
PROGRAM = """
import subprocess, sys
from voxflow.locks import hold_workspace
def say(line): print("said:", line, flush=True)
workspace, stage, fold, *rest = sys.argv[1:]
with hold_workspace(workspace, stage, say, fold=int(fold) or None):
    print("holds", flush=True)
    if rest:
        child = [sys.executable, rest[0], workspace, "train", "0"]
        answer = subprocess.run(child, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()
        print("child", answer, flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "POLL_S", 0.02)
    monkeypatch.delenv(locks.HOLDS, raising=False)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def read_hold(repository: Path) -> str:
    """What the holder of the workspace's lock passes on to its children."""
    path = repository / ".voxflow/spleen.lock"
    return f"{path}={json.loads(path.read_text())['signature']}"


def finish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


def test_the_second_waits_and_says_who_is_at_work_since_when() -> None:
    with start("spleen", "train", "0") as first:
        assert read_line(first) == "holds"
        with start("spleen", "export", "0") as second:
            line = read_line(second)
            assert line.startswith(f"said: spleen is being written by process {first.pid} (train spleen, since 20")
            assert line.endswith("; waiting for it to end")
            finish(first)
            assert read_line(second) == "holds"
            finish(second)


def test_a_killed_process_holds_nothing() -> None:
    with start("spleen", "train", "0") as first:
        assert read_line(first) == "holds"
        first.send_signal(signal.SIGKILL)
    with hold_workspace("spleen", "train", pytest.fail):
        pass


def test_other_workspaces_do_not_wait() -> None:
    with start("spleen", "train", "0") as first:
        assert read_line(first) == "holds"
        with hold_workspace("chest", "train", pytest.fail):
            pass
        finish(first)


def test_folds_run_side_by_side_but_not_twice_and_not_beside_the_whole() -> None:
    with start("spleen", "train", "1") as first:
        assert read_line(first) == "holds"
        with hold_workspace("spleen", "train", pytest.fail, fold=2):
            pass
        for fold in (1, None):
            lines: list[str] = []

            def refuse(line: str, lines: list[str] = lines) -> None:
                lines.append(line)
                raise InterruptedError

            with pytest.raises(InterruptedError), hold_workspace("spleen", "export", refuse, fold=fold):
                pytest.fail("two wrote at once")
            assert f"process {first.pid} (train_fold spleen-1, since " in lines[0]
        finish(first)


def test_a_child_of_who_holds_the_lock_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with start("spleen", "pipeline", "0", "program.py") as flow:
        assert read_line(flow) == "holds"
        assert read_line(flow) == "child holds"
        finish(flow)


def test_a_child_does_not_wait_for_a_parent_that_could_not_write_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start("spleen", "pipeline", "0") as flow:
        assert read_line(flow) == "holds"
        monkeypatch.setenv(locks.HOLDS, read_hold(tmp_path))
        (tmp_path / ".voxflow/spleen.lock").write_text("")  # as on a full disk
        with hold_workspace("spleen", "train", pytest.fail):
            pass
        finish(flow)


def test_a_variable_of_a_parent_that_is_gone_opens_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with start("spleen", "pipeline", "0") as gone:
        assert read_line(gone) == "holds"
        held = read_hold(tmp_path)
        gone.send_signal(signal.SIGKILL)
    monkeypatch.setenv(locks.HOLDS, held)
    with start("spleen", "train", "0") as other:
        assert read_line(other) == "holds"

        def refuse(line: str) -> None:
            assert f"process {other.pid} " in line
            raise InterruptedError

        with pytest.raises(InterruptedError), hold_workspace("spleen", "train", refuse):
            pytest.fail("two wrote at once")
        finish(other)


def test_a_stage_whose_flow_was_killed_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow's lock is free at once; the stage that it ran ends some seconds later."""
    with start("spleen", "pipeline", "0") as flow:
        assert read_line(flow) == "holds"
        with monkeypatch.context() as patch:
            patch.setenv(locks.HOLDS, read_hold(tmp_path))
            stage = start("spleen", "train", "0")
        with stage:
            assert read_line(stage) == "holds"
            flow.send_signal(signal.SIGKILL)
            flow.wait()
            with start("spleen", "train", "0") as next_one:
                assert f"process {stage.pid} (train spleen" in read_line(next_one)
                finish(stage)
                assert read_line(next_one) == "holds"
                finish(next_one)


def test_threads_of_one_process_wait_for_each_other_and_a_thread_never_for_itself() -> None:
    order: list[str] = []

    def work() -> None:
        with hold_workspace("spleen", "export", order.append):
            order.append("second")

    with hold_workspace("spleen", "train", pytest.fail):
        with hold_workspace("spleen", "export", pytest.fail):
            pass
        thread = threading.Thread(target=work)
        thread.start()
        until = time.monotonic() + 60
        while not order:
            assert time.monotonic() < until
            time.sleep(0.01)
        order.append("first")
    thread.join(60)
    assert [order[0].partition(" is ")[0], *order[1:]] == ["spleen", "first", "second"]
    assert locks.HOLDS not in os.environ


def test_who_comes_round_again_does_not_wait() -> None:
    with start("spleen.infer", "answer", "0") as first:
        assert read_line(first) == "holds"
        with try_lock("spleen.infer") as ours:
            assert not ours
        finish(first)
    with try_lock("spleen.infer") as ours:
        assert ours


def test_an_mmar_of_a_repository_has_its_workspaces_lock_and_another_one_its_own(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("workspaces: {}\n")
    with hold_outputs(tmp_path / "mmars/spleen/models", "train", pytest.fail):
        assert (tmp_path / ".voxflow/spleen.lock").is_file()
    assert not (tmp_path / "mmars/spleen/models").exists()
    with hold_outputs(tmp_path / "elsewhere/models", "train", pytest.fail):
        assert [path.name for path in (tmp_path / "elsewhere/models").iterdir()] == [".voxflow.lock"]
    assert not list((tmp_path / "elsewhere/models").iterdir())


def test_the_lock_of_a_folder_can_be_taken_again_and_again(tmp_path: Path) -> None:
    """Its file is removed each time, so that a second one must not hold a file that has no name any more."""
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with hold_outputs(tmp_path / "out", "infer", lambda _: None):
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    locks.POLL_S = 0.001
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == 1


def test_a_folder_without_rights_is_no_reason_not_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with hold_file(tmp_path / "params.yaml", pytest.fail):
        pass


def test_of_several_processes_of_one_training_the_first_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with start("spleen", "train", "0") as first:
        assert read_line(first) == "holds"
        monkeypatch.setenv("RANK", "1")
        with hold_workspace("spleen", "train", pytest.fail):
            pass
        finish(first)


def test_a_stage_of_dvc_does_not_wait_for_a_flow_that_may_wait_for_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    with start("spleen", "pipeline", "0") as flow:
        assert read_line(flow) == "holds"
        monkeypatch.setenv("DVC_STAGE", "train@spleen")
        message = (
            rf"spleen is being written by process {flow.pid} \(pipeline spleen, since .*; run this again when it has"
        )
        with pytest.raises(VoxflowError, match=message), hold_workspace("spleen", "train", pytest.fail):
            pytest.fail("two wrote at once")
        finish(flow)
