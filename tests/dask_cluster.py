"""A Dask cluster of two worker processes for tests, one of which can be killed while it has a case."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def start_two_workers(folder: Path) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed (voxflow[scale])")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=str(folder),
        silence_logs=logging.CRITICAL,
    )
    with cluster:
        yield cluster


class WorkerKiller(threading.Thread):
    """Kills the first worker that has a case, once ``ready`` says so; a stopped process can't finish it meanwhile."""

    def __init__(self, cluster: Any, ready: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._cluster, self._ready = cluster, ready
        self.killed: int | None = None

    def run(self) -> None:
        end = time.monotonic() + 60
        while self.killed is None and time.monotonic() < end:
            for nanny in list(self._cluster.workers.values()) if self._ready() else []:
                if nanny.pid and self._is_busy(nanny.worker_address):
                    self._strike(nanny.worker_address, nanny.pid)
                    break
            time.sleep(0.002)

    def _strike(self, address: str, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        if self._is_busy(address):
            os.kill(pid, signal.SIGKILL)
            self.killed = pid
        else:
            os.kill(pid, signal.SIGCONT)

    def _is_busy(self, address: str) -> bool:
        worker = self._cluster.scheduler.workers.get(address)
        return worker is not None and any(str(task.key).startswith("case-") for task in list(worker.processing))


@contextlib.contextmanager
def kill_one_worker(cluster: Any, ready: Callable[[], bool]) -> Iterator[None]:
    """In the block one worker is killed while it has a case; first, one that was killed before is replaced."""
    end = time.monotonic() + 60
    while len(cluster.scheduler.workers) < len(cluster.workers) and time.monotonic() < end:
        time.sleep(0.05)
    killer = WorkerKiller(cluster, ready)
    killer.start()
    yield
    killer.join(60)
    assert killer.killed is not None
