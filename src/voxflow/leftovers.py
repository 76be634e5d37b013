"""Names what is half written after the process that writes it, so that a later run can clear away what the dead left.

A temporary name is ``.partial-PID-START-PLACE-RANDOM``: the process, when it began, and a digest of the machine and its
container. While a folder is replaced on a file system that can't swap two names, the old one is for a moment called
``.replaced-PID-START-PLACE-NAME``; where its process died then, the old folder gets its name back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import time
from functools import cache
from pathlib import Path

PARTIAL, REPLACED = ".partial-", ".replaced-"
# Whether a process of another machine or container lives can't be seen: what nobody touched for a day is dead.
FOREIGN_S = 86_400
# Names of before version 1 had no process in them.
UNSIGNED_S = 3_600

_SIGNED = re.compile(r"\.(?:partial|replaced)-(?P<pid>\d+)-(?P<start>\d+)-(?P<place>[0-9a-f]{8})-(?P<rest>.+)")
_UNSIGNED = re.compile(r"\.partial-[a-z0-9_]{8}(?:\..*)?")
_STATE, _START = 0, 19  # of the fields of /proc/PID/stat behind the command


def sign_process() -> str:
    """Return what names this process among all that ever run here: ``PID-START-PLACE``."""
    pid = os.getpid()
    return f"{pid}-{read_start(pid) or 0}-{_digest_place()}"


def read_start(pid: int) -> int | None:
    """Return when a process of this machine began, in clock ticks since the machine did; None where there is none.

    A process that has ended and whose parent has not asked for its exit code counts as none. Where there is no
    ``/proc``, as on macOS, the time is not known: 0.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[_STATE] in "ZX" else int(fields[_START])
    except (OSError, IndexError, ValueError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def remove_leftovers(folder: Path) -> None:
    """Clear away what processes that are gone left half written directly in a folder, and undo half a replacement.

    What lives processes write stays. What can't be removed stays as well: it is in nobody's way.
    """
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if path.name.startswith((PARTIAL, REPLACED))]:
            with contextlib.suppress(OSError):
                _settle(path)


def _settle(path: Path) -> None:
    if not _is_abandoned(path):
        return
    signed = _SIGNED.fullmatch(path.name)
    if path.name.startswith(REPLACED) and signed:
        target = path.with_name(signed["rest"])
        if not target.exists():
            path.rename(target)
            return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    if signed := _SIGNED.fullmatch(path.name):
        if signed["place"] == _digest_place():
            return read_start(int(signed["pid"])) != int(signed["start"])
        return _seconds_untouched(path) > FOREIGN_S
    return bool(_UNSIGNED.fullmatch(path.name)) and _seconds_untouched(path) > UNSIGNED_S


def _seconds_untouched(path: Path) -> float:
    """Since a file was written, or anything below a folder came or went."""
    folders = [Path(folder) for folder, _, _ in os.walk(path)] or [path]
    return time.time() - max(folder.lstat().st_mtime for folder in folders)


@cache
def _digest_place() -> str:
    """Of this machine's name and of the container, in which process ids count from one again."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]
