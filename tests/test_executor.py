"""Worker processes that die cost what they were at, and nothing else; none outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.deadly_work import fail, kill_itself, name_lost
from voxflow.executor import CHUNK, process_map

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGSEGV"])
def test_a_worker_that_dies_again_and_again_costs_its_item_alone(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with process_map(2) as run:
        results = list(run(kill_itself, ["A", name, "B", "C", "D"], name_lost))
    assert results[0::2] == ["a", "b", "d"]
    assert results[1].startswith(f"{name} lost: its worker process was ended by {name}")
    assert "is tried again, alone" in capfd.readouterr().err


def test_what_a_worker_was_at_when_something_else_killed_it_is_done_again(tmp_path: Path) -> None:
    with process_map(2) as run:
        results = list(run(kill_itself, ["A", f"SIGKILL {tmp_path / 'flag'}", "B"], name_lost))
    assert results == ["a", "sigkill", "b"]


def test_of_a_chunk_only_the_item_that_kills_is_lost() -> None:
    items = [f"A{n}" for n in range(3 * CHUNK)]
    items[CHUNK + 5] = "SIGKILL"
    with process_map(2) as run:
        results = list(run(kill_itself, items, name_lost))
    assert [n for n, result in enumerate(results) if result != items[n].lower()] == [CHUNK + 5]


def test_what_a_worker_raises_is_raised_with_the_place_where_it_was() -> None:
    with process_map(2) as run, pytest.raises(ValueError, match="bad was worked on") as caught:
        list(run(fail, ["good", "bad"], name_lost))
    assert "deadly_work.py" in caught.value.__notes__[0]


PROGRAM = """
import sys
from tests.deadly_work import name_lost, wait_long
from voxflow.executor import process_map
if __name__ == "__main__":
    with process_map(2) as run:
        list(run(wait_long, sys.argv[1:], name_lost))
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    flags = [tmp_path / "a", tmp_path / "b"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py", *flags], env=environment) as parent:
        wait_until(lambda: all(flag.exists() and flag.read_text() for flag in flags))
        workers = [int(flag.read_text()) for flag in flags]
        parent.kill()
    try:
        wait_until(lambda: not any(map(is_alive, workers)))
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Whether it runs: nobody may be there to reap it."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
