"""What a Dask worker does with one case: in which folder, with which code, and one case at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import ClusterError
from voxflow.executor import make_portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Other versions of these may well write other bytes.
LIBRARIES = ("numpy", "SimpleITK", "pydicom", "torch")

_ONE_AT_A_TIME = threading.Lock()
_AT_WORK: Counter[str] = Counter()


@dataclass(frozen=True)
class Identity:
    """What a process computes with: two that have the same write the same bytes.

    Attributes:
        parts: what, and which.
    """

    parts: tuple[tuple[str, str], ...]

    @staticmethod
    @cache
    def of_this_process() -> Identity:
        """Read once, so that a worker which is older than the code on its disk gives itself away."""
        code = hashlib.sha256()
        root = Path(__file__).parent
        for path in sorted(root.rglob("*.py")):
            code.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
        versions = ((name, metadata.version(name).partition("+")[0]) for name in LIBRARIES)
        return Identity((("voxflow's code", code.hexdigest()[:12]), *versions))

    def difference(self, identity: Identity) -> str:
        """What the other has otherwise, in words; empty where nothing is."""
        pairs = zip(self.parts, identity.parts, strict=True)
        return "; ".join(f"{name} is {theirs}, not {mine}" for (name, mine), (_, theirs) in pairs if mine != theirs)


@dataclass(frozen=True)
class Call:
    """What is done to every case of a run.

    Attributes:
        work: the function.
        root: the folder that its relative paths start from.
        mark: a file that whoever sees the same folders sees.
        token: the run's.
        identity: what the stage's own process computes with.
    """

    work: Callable[[Any], Any]
    root: Path
    mark: Path
    token: str
    identity: Identity


@dataclass(frozen=True)
class CaseError:
    """What a case raised. It is returned, since Dask would log the arguments with it, and they may name patients."""

    error: Exception


def do_case(call: Call, item: object) -> Any:
    """Do one case's work as the stage's own process would; gives its result, or :class:`CaseError`."""
    with _ONE_AT_A_TIME, _count_work(call.token):
        try:
            _require_fit(call)
            with _inside(call.root):
                return call.work(item)
        except Exception as error:  # noqa: BLE001 - raised where the stage is
            return CaseError(make_portable(error))


async def wait_until_idle(token: str, limit_s: float) -> None:
    """Wait until this worker does nothing for a run any more."""
    end = time.monotonic() + limit_s
    while _AT_WORK[token] and time.monotonic() < end:
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def _count_work(token: str) -> Iterator[None]:
    _AT_WORK[token] += 1
    try:
        yield
    finally:
        _AT_WORK[token] -= 1


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _require_fit(call: Call) -> None:
    if not call.mark.is_file():
        raise ClusterError(
            f"the Dask worker {_own_address()} does not see {call.mark.parent}; workers need the same folders under "
            "the same paths as the machine that runs the stage"
        )
    difference = call.identity.difference(Identity.of_this_process())
    if difference:
        raise ClusterError(
            f"the Dask worker {_own_address()} computes with something else: {difference}; renew and restart it"
        )


def _own_address() -> str:
    from distributed import get_worker

    return str(get_worker().address)
