"""Lets one process at a time write to a workspace; a second one says who is at work there, and waits.

A lock is held on an open file, so that the system lets go of it however its process ends. The file names who holds it.
A process passes its locks on to those that it starts, by the environment variable ``VOXFLOW_HOLDS``: a stage that a
flow runs does not wait for the flow. Commands that only read take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from voxflow.errors import VoxflowError
from voxflow.leftovers import read_start, sign_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(".voxflow")
HOLDS = "VOXFLOW_HOLDS"
STARTED_BY_DVC = "DVC_STAGE"
POLL_S = 1.0
FOLDER_LOCK = ".voxflow.lock"

# Network file systems without locks, and places where nothing can be written: the work goes on as without a lock.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EROFS}
_of_this_thread = threading.local()


class Holder(NamedTuple):
    """Who holds a lock.

    Attributes:
        signature: of the process, as :func:`voxflow.leftovers.sign_process` makes it.
        command: what it does, such as ``train spleen_demo``.
        since: when it began, in local time.
    """

    signature: str
    command: str
    since: str

    @property
    def line(self) -> str:
        """Who it is, for a person."""
        return f"process {self.signature.partition('-')[0]} ({self.command}, since {self.since})"


@contextlib.contextmanager
def hold_workspace(
    workspace: str, stage: str, say: Callable[[str], None], *, folder: Path = FOLDER, fold: int | None = None
) -> Iterator[None]:
    """Hold the lock of a workspace inside the block, after those who hold it now.

    A program that DVC has started does not wait: a flow that holds the lock may itself wait for that DVC.

    Stages of different folds may run at the same time, but none beside a stage of the whole workspace.

    Args:
        workspace: whose lock.
        stage: what this process does there, for those who wait.
        say: gets one line when there is somebody to wait for.
        folder: where the locks of a repository are.
        fold: the number of the only fold that is written to; None: all of the workspace may be.

    Raises:
        VoxflowError: DVC has started this, and somebody else holds the lock.
    """
    command = f"{stage} {workspace}" if fold is None else f"{stage}_fold {workspace}-{fold}"
    # A stage whose flow was killed works on for seconds, without the flow's lock, until it is ended, too.
    part = f"stage-{stage}" if fold is None else f"fold-{fold}"
    wait = _refuse_to_wait if STARTED_BY_DVC in os.environ else say
    with (
        _hold(folder / f"{workspace}.lock", workspace, command, wait, is_shared=fold is not None),
        _hold(folder / f"{workspace}.{part}.lock", workspace, command, say),
    ):
        yield


@contextlib.contextmanager
def hold_outputs(outputs: Path, stage: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of who writes to a folder: of its workspace, or its own where it is in no workspace.

    Args:
        outputs: the folder, such as an MMAR's ``models``; it is made.
        stage: what this process does there.
        say: gets one line when there is somebody to wait for.
    """
    outputs = outputs.absolute()
    for place in (outputs, *outputs.parents):
        if place.parent.name == "mmars" and place.parent.with_name("params.yaml").is_file():
            with hold_workspace(place.name, stage, say, folder=place.parent.with_name(FOLDER.name)):
                yield
            return
    with _hold(outputs / FOLDER_LOCK, str(outputs), stage, say, is_removed=True):
        yield


@contextlib.contextmanager
def hold_file(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file that all workspaces share, such as params.yaml, while it is read, changed and written.

    Args:
        path: the file; its lock is in ``.voxflow`` beside it.
        say: as of :func:`hold_workspace`.
    """
    with _hold(path.parent / FOLDER / f"{path.name}.lock", str(path), f"change {path.name}", say):
        yield


@contextlib.contextmanager
def try_lock(name: str, folder: Path = FOLDER) -> Iterator[bool]:
    """Hold a lock inside the block where nobody holds it, and never wait: for work that comes round again soon.

    Yields:
        Whether it is ours.
    """
    path = folder / f"{name}.lock"
    try:
        with _hold(path, name, name, _refuse_to_wait):
            yield True
    except _BusyError:
        yield False


class _BusyError(VoxflowError):
    """Somebody else holds a lock."""


def _refuse_to_wait(line: str) -> None:
    raise _BusyError(line.replace("waiting for it to end", "run this again when it has ended"))


@contextlib.contextmanager
def _hold(
    path: Path,
    title: str,
    command: str,
    say: Callable[[str], None],
    *,
    is_shared: bool = False,
    is_removed: bool = False,
) -> Iterator[None]:
    """Hold one lock.

    Args:
        path: its file.
        title: what it stands for, in the line for who waits.
        command: what this process does.
        say: gets that line.
        is_shared: others may share it, and only an exclusive holder shuts them out.
        is_removed: remove the file afterwards; only where nobody ever shares it.
    """
    path = path.absolute()
    held: dict[Path, int] = _of_this_thread.__dict__.setdefault("held", {})
    # Of several processes of one training, the first one writes.
    if path in held or os.environ.get("RANK", "0") != "0":
        yield
        return
    descriptor = _acquire(path, title, say, is_shared=is_shared)
    if descriptor is None:
        yield
        return
    inherited = os.environ.get(HOLDS)
    try:
        _write_holder(descriptor, command)
        held[path] = descriptor
        os.environ[HOLDS] = os.pathsep.join(filter(None, (inherited, f"{path}={sign_process()}")))
        yield
    finally:
        held.pop(path, None)
        _drop_from_environment(path)
        if is_removed:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, title: str, say: Callable[[str], None], *, is_shared: bool) -> int | None:
    """Open and lock a file; None where a parent of this process holds it, or where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    is_waiting = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                if _is_inherited(path):
                    return None
                if not is_waiting:
                    say(f"{title} is being written by {_describe_holders(path)}; waiting for it to end")
                is_waiting = True
                time.sleep(POLL_S)
                continue
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return None
            if _is_same_file(descriptor, path):
                stack.pop_all()
                return descriptor


def _is_same_file(descriptor: int, path: Path) -> bool:
    """Whether the file was not removed between its opening and its locking."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_inherited(path: Path) -> bool:
    """Whether a process that has started this one holds the lock."""
    entries = (entry.rpartition("=") for entry in os.environ.get(HOLDS, "").split(os.pathsep))
    parents = {signature for name, _, signature in entries if name == str(path)} - {sign_process()}
    holder = _read_holder(path)
    # On a full disk the parent could not write who it is.
    return any(map(_is_alive, parents)) if holder is None else holder.signature in parents


def _is_alive(signature: str) -> bool:
    """Whether a process may still run; one of another machine may."""
    pid, start, place = signature.split("-")
    return place != sign_process().rpartition("-")[2] or read_start(int(pid)) == int(start)


def _drop_from_environment(path: Path) -> None:
    entry = f"{path}={sign_process()}"
    remaining = [name for name in os.environ.get(HOLDS, "").split(os.pathsep) if name and name != entry]
    if remaining:
        os.environ[HOLDS] = os.pathsep.join(remaining)
    else:
        os.environ.pop(HOLDS, None)


def _write_holder(descriptor: int, command: str) -> None:
    """Say in the lock's file who holds it; a full disk is no reason not to work."""
    holder = Holder(sign_process(), command, time.strftime("%Y-%m-%d %H:%M:%S"))
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(holder._asdict()) + "\n").encode(), 0)


def _read_holder(path: Path) -> Holder | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        holder = Holder(**{name: str(values[name]) for name in Holder._fields})
        return holder if _is_alive(holder.signature) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _describe_holders(path: Path) -> str:
    folds = sorted(path.parent.glob(f"{path.stem}.fold-*.lock"))
    holders = [holder for file in (path, *folds) if (holder := _read_holder(file))]
    return ", ".join(dict.fromkeys(holder.line for holder in holders)) or "another process"
