"""Lets two flow runs of one workspace in one repository take turns, since both write to the same folders."""

from __future__ import annotations

import contextlib
import fcntl
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_S = 1.0


@contextlib.contextmanager
def wait_for_turn(workspace: str, say: Callable[[str], None], folder: Path = Path(".voxflow")) -> Iterator[None]:
    """Hold the workspace's lock inside the block, after those who hold it now.

    The system lets go of it when this process ends, however it ends.

    Args:
        workspace: whose lock.
        say: gets one line when there is somebody to wait for.
        folder: where locks are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{workspace}.lock").open("w") as lock:
        waiting = False
        while not _try_lock(lock.fileno()):
            if not waiting:
                say(f"another flow run works on {workspace}, waiting for it to end")
            waiting = True
            time.sleep(POLL_S)
        yield


@contextlib.contextmanager
def try_turn(workspace: str, folder: Path = Path(".voxflow")) -> Iterator[bool]:
    """Hold the workspace's lock inside the block where nobody holds it, and never wait.

    For work that comes round again soon.

    Yields:
        Whether it is ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{workspace}.lock").open("w") as lock:
        yield _try_lock(lock.fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
