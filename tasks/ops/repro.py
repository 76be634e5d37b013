"""Runs one stage through DVC, as a child process that ends with its parent, and reports the result."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.ops import leash
from voxflow.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_WRONG_INPUT, VoxflowError
from voxflow.redaction import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Verdict = Literal["ran", "unchanged", "from cache"]

# What DVC 3 prints; its exit code is 255 whatever happened.
LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
COMMAND_FAILED = re.compile(r"failed to run: .*, exited with (-?\d+)\s*$")
UNCHANGED, FROM_CACHE, ERROR = "didn't change, skipping", "is cached - skipping run", "ERROR: "
LOCK_DELAYS_S = (1.0, 2.0, 5.0, 10.0)
# Advice for people who call DVC by hand; git is not this program's business.
ADVICE = re.compile(r"To (track the changes|enable auto staging)|\s+(git add|dvc config core.autostage)|Use `dvc push`")
KILLED_FROM, LAST_SIGNAL = 128, 64


@dataclass(frozen=True)
class Outcome:
    """What came of a stage: its address, whether it ran or DVC had its outputs already, and how long it took."""

    address: str
    verdict: Verdict
    seconds: float


class StageError(VoxflowError):
    """A stage failed.

    Args:
        message: one line that names the stage and the reason.
        code: the exit code for a program that ran the stage (see ``voxflow.errors``).
        killed: a signal ended it (no memory left, a machine that shut down), so that it may well end next time.
    """

    def __init__(self, message: str, *, code: int, killed: bool = False) -> None:
        super().__init__(message)
        self.exit_code = code
        self.killed = killed


class Reproducer:
    """Runs stages of one repository, several at once from several threads; leaving it ends those that still run.

    Args:
        root: the repository.
        variables: of the environment, for the stages; DVC does not look at them when it decides what has changed.
    """

    def __init__(self, root: Path = Path(), variables: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._variables = dict(variables or {})
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._children: set[subprocess.Popen[str]] = set()

    def __enter__(self) -> Reproducer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every stage that runs, and start no other."""
        with self._guard:
            self._stopping.set()
            children = list(self._children)
        for child in children:
            leash.let_go(child)

    def run(self, address: str, *, force: bool, say: Callable[[str], None]) -> Outcome:
        """Run one stage unless DVC has its outputs; waits as long as another DVC process is in the way.

        Args:
            address: the stage as DVC calls it, such as ``train@spleen_demo``.
            force: run it even when nothing changed.
            say: gets every line that DVC and the stage write.

        Raises:
            StageError: it failed, or it was stopped.
        """
        begun = time.monotonic()
        delays = itertools.chain(LOCK_DELAYS_S, itertools.repeat(LOCK_DELAYS_S[-1]))
        has_waited = False
        while True:
            code, lines = self._run_once(address, force, say)
            if self._stopping.is_set():
                raise StageError(f"{address}: stopped", code=EXIT_INTERRUPTED)
            if code == 0:
                return Outcome(address, _read_verdict(lines), time.monotonic() - begun)
            if not any(LOCKED.search(line) for line in lines):
                raise _describe_failure(address, code, lines)
            if not has_waited:
                say(f"{address}: another DVC process is in the way, waiting for it")
            has_waited = True
            self._stopping.wait(next(delays))

    def _run_once(self, address: str, force: bool, say: Callable[[str], None]) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", *(["--force"] if force else []), address]
        with self._guard:
            if self._stopping.is_set():
                return EXIT_INTERRUPTED, []
            child = leash.start(
                command, cwd=self._root, environment=_make_environment() | self._variables, output=subprocess.PIPE
            )
            self._children.add(child)
        lines: list[str] = []
        is_locked = False
        # Leaving the block closes the leash, so that an exception in `say` leaves no stage behind.
        with child:
            for line in child.stdout or ():
                if line.strip() and not ADVICE.match(line):
                    # What DVC says of its locks, with the advice to remove them, is not for who only has to wait.
                    is_locked = is_locked or LOCKED.search(line) is not None
                    if not is_locked:
                        say(hide_secrets(line.rstrip()))
                    lines.append(line.rstrip())
            code = child.wait()
        with self._guard:
            self._children.discard(child)
        return code, lines


def _make_environment() -> dict[str, str]:
    """This process's environment, with ``python`` meaning the interpreter that runs this process."""
    programs = str(Path(sys.executable).parent)
    return os.environ | {"PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])}


def _read_verdict(lines: list[str]) -> Verdict:
    if any(FROM_CACHE in line for line in lines):
        return "from cache"
    return "unchanged" if any(UNCHANGED in line for line in lines) else "ran"


def _describe_failure(address: str, code: int, lines: list[str]) -> StageError:
    for line in lines:
        if match := COMMAND_FAILED.search(line):
            return _describe_command_failure(address, int(match[1]), lines)
    if KILLED_FROM < code <= KILLED_FROM + LAST_SIGNAL:
        return StageError(f"{address}: DVC was killed by signal {code - KILLED_FROM}", code=EXIT_FAILURE, killed=True)
    reason = next((line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)), f"DVC ended with {code}")
    return StageError(f"{address}: {reason}", code=EXIT_WRONG_INPUT)


def _describe_command_failure(address: str, code: int, lines: list[str]) -> StageError:
    """The stage's own exit code; negative or above 128 when a signal ended it."""
    if code < 0 or code > KILLED_FROM:
        number = -code if code < 0 else code - KILLED_FROM
        return StageError(f"{address}: killed by signal {number}", code=EXIT_FAILURE, killed=True)
    prefix = address.replace("@", " ") + ": error: "
    reason = next((line for line in lines if line.startswith(prefix)), f"{address}: ended with exit code {code}")
    return StageError(reason, code=EXIT_WRONG_INPUT if code == EXIT_WRONG_INPUT else EXIT_FAILURE)
