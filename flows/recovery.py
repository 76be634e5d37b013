"""Restarts the runs that a killed worker left: ``python -m flows.recovery``, before a worker is started.

Each run of a deployment holds a lock for as long as its process lives, however that ends. A lock that nobody holds, of
a run that the server believes to be going or knows to have crashed, says that its process is gone: it is scheduled
anew, and the next free worker takes it. What its stages had finished is in DVC's cache, and a training goes on from its
last checkpoint.
"""

from __future__ import annotations

import fcntl
import sys
import time
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client

# Prefect reads the annotations of hooks while it runs.
from prefect.client.schemas.objects import FlowRun, State  # noqa: TC002
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Scheduled

from tasks.ops.leash import GRACE_S
from tasks.ops.serve import AT_WORK
from voxflow.errors import EXIT_OK

if TYPE_CHECKING:
    from pathlib import Path

    from prefect import Flow

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# A run that takes its worker along each time would do so for ever.
MOST_RUNS = 3
POLL_S = 0.5

# Open until this process ends.
_held: list[IO[str]] = []


def recoverable(flow: Flow[Parameters, Result]) -> Flow[Parameters, Result]:
    """Let runs of a flow hold a lock from their beginning to their end; a crash is no end."""
    flow.on_running(hold_lock)
    flow.on_completion(remove_lock)
    flow.on_failure(remove_lock)
    flow.on_cancellation(remove_lock)
    return flow


def hold_lock(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Take the lock of a run that begins; Prefect calls this when a flow starts to run.

    A run without a deployment takes none, since nobody could take it up again.
    """
    if flow_run.deployment_id is None:
        return
    AT_WORK.mkdir(parents=True, exist_ok=True)
    lock = (AT_WORK / f"{flow_run.id}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held.append(lock)


def remove_lock(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove the lock of a run that has ended."""
    (AT_WORK / f"{flow_run.id}.lock").unlink(missing_ok=True)


def take_up_again(folder: Path = AT_WORK, patience_s: float = GRACE_S + 5) -> list[str]:
    """Schedule anew each run whose process is gone.

    Args:
        folder: where locks are.
        patience_s: how long to wait for processes that are about to end with their worker.

    Returns:
        One line for each run.
    """
    end = time.monotonic() + patience_s
    lines = []
    with get_client(sync_client=True) as client:
        for path in sorted(folder.glob("*.lock")):
            while path.exists() and _is_held(path) and time.monotonic() < end:
                time.sleep(POLL_S)
            if not _is_held(path):
                lines += _settle(client, UUID(path.stem))
                path.unlink(missing_ok=True)
    return lines


def _settle(client: SyncPrefectClient, run_id: UUID) -> list[str]:
    try:
        run = client.read_flow_run(run_id)
    except ObjectNotFound:
        return []
    if run.state is None or not (run.state.is_running() or run.state.is_crashed()):
        return []
    if run.run_count >= MOST_RUNS:
        reason = f"begun {run.run_count} times, and its process was gone each time; no memory or no disk left?"
        client.set_flow_run_state(run_id, Crashed(message=reason), force=True)
        return [f"{run.name}: {reason}"]
    client.set_flow_run_state(run_id, Scheduled(name="TakenUpAgain", message="the process of this run was gone"))
    return [f"{run.name}: its process was gone, it is taken up again"]


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock; one that was just removed has ended as it should."""
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return True
    return False


def main() -> int:
    """Run as a program."""
    for line in take_up_again():
        sys.stderr.write(f"recovery: {line}\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
