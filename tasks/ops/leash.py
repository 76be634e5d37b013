"""Starts a command that never outlives its parent, however the parent ends: ``python leash.py COMMAND...``.

The leash is a pipe. Whoever starts this program holds the write end of its standard input; when that end is closed,
by hand or because its holder was killed, the command and all that it started are ended. Nothing else works for a
parent that is killed with SIGKILL, since it can't tell anyone. This file imports the standard library only, and is
started as a file, so that a leash costs some 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Time to write a checkpoint or to close a database between being asked to end and being killed.
GRACE_S = 10.0


def start(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, output: Any = None
) -> subprocess.Popen[str]:
    """Start ``command`` on a leash; stdout and stderr go to ``output`` together (None: where this process's go).

    The process that is returned ends with the command's exit code, 128 + N when signal N ended it.
    """
    return subprocess.Popen(
        [sys.executable, "-I", __file__, *command],
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def let_go(process: subprocess.Popen[str]) -> None:
    """End a leashed command, politely first; does not wait for it."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def main(command: Sequence[str]) -> int:
    """Run ``command`` in a process group of its own until it ends or standard input is closed."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _end(child.pid, ended))
    threading.Thread(target=_watch, args=(child.pid, ended), daemon=True).start()
    code = child.wait()
    ended.set()
    _signal_group(child.pid, signal.SIGKILL)
    return 128 - code if code < 0 else code


def _watch(group: int, ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _end(group, ended)


def _end(group: int, ended: threading.Event) -> None:
    _signal_group(group, signal.SIGTERM)
    threading.Thread(target=_kill_later, args=(group, ended), daemon=True).start()


def _kill_later(group: int, ended: threading.Event) -> None:
    if not ended.wait(GRACE_S):
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
