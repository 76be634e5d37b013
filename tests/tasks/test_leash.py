"""A leashed command ends when its holder does, whatever it started itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.ops import leash

ROOT = Path(__file__).resolve().parents[2]
# Starts a child of its own, writes both process ids, and would sleep for a minute.
SLEEPERS = "sleep 60 & echo $$ $! > {0}.new; mv {0}.new {0}; wait"


def wait_for_pids(path: Path) -> list[int]:
    until = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < until, "the command did not start"
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def assert_gone(pids: list[int]) -> None:
    until = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a process was left behind"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 128 + signal.SIGKILL)])
def test_exit_code_is_passed_on(command: str, code: int) -> None:
    with leash.start(["sh", "-c", command]) as process:
        assert process.wait(20) == code


def test_output_comes_as_one_stream() -> None:
    with leash.start(["sh", "-c", "echo out; echo err >&2"], output=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "out\nerr\n"


def test_letting_go_ends_the_command_and_its_children(tmp_path: Path) -> None:
    with leash.start(["sh", "-c", SLEEPERS.format(tmp_path / "pids")]) as process:
        pids = wait_for_pids(tmp_path / "pids")
        leash.let_go(process)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert_gone(pids)


def test_a_killed_holder_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tasks.ops import leash;"
        f"leash.start(['sh', '-c', {SLEEPERS.format(tmp_path / 'pids')!r}]).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as holder:
        pids = wait_for_pids(tmp_path / "pids")
        os.kill(holder.pid, signal.SIGKILL)
    assert_gone(pids)


def test_a_deaf_command_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(leash.__file__).read_text().replace("GRACE_S = 10.0", "GRACE_S = 0.2")
    impatient = tmp_path / "leash.py"
    impatient.write_text(source)
    monkeypatch.setattr(leash, "__file__", str(impatient))
    with leash.start(["sh", "-c", "trap '' TERM;" + SLEEPERS.format(tmp_path / "pids") + "; wait"]) as process:
        pids = wait_for_pids(tmp_path / "pids")
        leash.let_go(process)
        assert process.wait(20) == 128 + signal.SIGKILL
    assert_gone(pids)
