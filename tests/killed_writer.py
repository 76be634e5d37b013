"""Replaces a folder and dies at each of its steps: ``python -m tests.killed_writer FOLDER swaps|stands-aside``.

Prints one line for each moment: what stood at the target right after the kill, and what did after the next run.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow import files
from voxflow.leftovers import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable

# Whatever changes names on a disk goes through one of these.
STEPS = ("rename", "replace", "unlink", "rmdir", "mkdir", "chmod")
COUNT = 20


def fill(folder: Path, word: str) -> None:
    for number in range(COUNT):
        (folder / f"{number}.txt").write_text(word)


def write(target: Path, word: str) -> None:
    with files.atomic_directory(target) as folder:
        fill(folder, word)


def read(target: Path) -> str:
    """The word that all files hold; "nothing" where there is no folder, "broken" where it is not whole."""
    if not target.exists():
        return "nothing"
    words = [path.read_text() for path in target.iterdir()]
    return words[0] if len(words) == COUNT and len(set(words)) == 1 else "broken"


def die_at(moment: int) -> None:
    """Let this process be killed at the n-th step: even numbers before a step, odd ones after it."""
    count = 0

    def wrap(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            result = step(*arguments, **options)
            if count + 1 == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 2
            return result

        return run

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))
    files.exchange = wrap(files.exchange)


def main(root: Path, how: str) -> None:
    if how == "stands-aside":
        files.exchange = lambda *_: False
    moment = 0
    while True:
        target = root / str(moment) / "volumes"
        target.mkdir(parents=True)
        fill(target, "old")
        child = os.fork()
        if not child:
            die_at(moment)
            write(target, "new")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return
        after_kill = read(target)
        remove_leftovers(target.parent)
        after_recovery = read(target)
        write(target, "next")
        remaining = ",".join(sorted(path.name for path in target.parent.iterdir()))
        sys.stdout.write(f"{after_kill} {after_recovery} {read(target)} {remaining}\n")
        moment += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
