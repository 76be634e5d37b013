"""Runs a program that is killed at one of its steps on the disk: ``python -m tests.stress.doomed MOMENT MODULE ...``.

A step is whatever gives, takes or changes a name: a file or folder that is begun, renamed or removed. Moment 2n is just
before step n, 2n + 1 just after it. Moment -1 kills nothing and prints ``steps: N``.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from voxflow import files

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (files, "exchange"))
BEGINNINGS = ((tempfile, "mkstemp"), (tempfile, "mkdtemp"))


class Doom:
    """Counts steps, and kills this process at one of them."""

    def __init__(self, moment: int) -> None:
        self.moment, self.count, self._guard = moment, 0, threading.Lock()

    def wrap(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with self._guard:
                number = self.count
                self.count += 1
            if 2 * number == self.moment:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return step(*arguments, **options)
            finally:
                if 2 * number + 1 == self.moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        return run


def main() -> None:
    doom = Doom(int(sys.argv[1]))
    for module, name in (*STEPS, *BEGINNINGS):
        setattr(module, name, doom.wrap(getattr(module, name)))
    del sys.argv[:2]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        if doom.moment < 0:
            sys.stdout.write(f"steps: {doom.count}\n")


if __name__ == "__main__":
    main()
