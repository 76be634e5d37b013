"""Work that kills the process which does it; imported by worker processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def kill_itself(item: str) -> str:
    """Give an item back in capitals; one that is a signal's name gets it first, always or (with a file) once."""
    name, _, flag = item.partition(" ")
    if name in signal.Signals.__members__ and not (flag and Path(flag).exists()):
        if flag:
            Path(flag).touch()
        os.kill(os.getpid(), signal.Signals[name])
    return name.lower()


def fail(item: str) -> str:
    if item == "bad":
        raise ValueError(f"{item} was worked on")
    return item


def wait_long(flag: str) -> str:
    """Say that it has begun, by a file with the number of the process, and wait in C."""
    Path(flag).write_text(str(os.getpid()))
    time.sleep(120)
    return flag


def name_lost(item: str, reason: str) -> str:
    return f"{item.partition(' ')[0]} lost: {reason}"
