"""Spreads single cases over the workers of a Dask cluster, all of which see the same folders.

Workers write the files; what travels is a case's description one way and a few rows the other. One case at a time a
worker process, since the current folder and the thread counts of libraries belong to the whole process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import secrets
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from voxflow.cluster_work import Call, CaseError, Identity, do_case, wait_until_idle
from voxflow.errors import ClusterError, ConfigError, MissingDependencyError
from voxflow.files import remove_partials
from voxflow.machine import list_gpus
from voxflow.places import read_params
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

VARIABLE, KEY, HERE = "VOXFLOW_DASK", "dask", "off"
# What a worker with a GPU of its own offers, as "dask worker --resources GPU=1" says.
GPU = "GPU"
PROCESSES = re.compile(r"local:([1-9]\d*)")
SCHEDULER = re.compile(r"(tcp|tls|ws|wss)://[^\s/]+:\d+")
# Seconds: for the scheduler to answer; for a first worker to come; without any worker, before the run ends with an
# error; between two looks at the cluster; and for workers to end the cases that they are at when a run is given up.
CONNECT_S = 10.0
FIRST_WORKER_S = 30.0
ALL_GONE_S = 60.0
POLL_S = 2.0
SETTLE_S = 60.0


def choose_cluster() -> str | None:
    """Where cases are worked on: ``VOXFLOW_DASK``, else ``dask`` in params.yaml; None: in this process.

    Raises:
        ConfigError: params.yaml is there and can't be read.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        address = read_params(may_lack=True).get(KEY)
    return None if address in (None, "", HERE, False) else str(address)


@contextlib.contextmanager
def open_executor(address: str | None) -> Iterator[Cluster | None]:
    """Connect to a cluster for the length of the block, or start one on this machine.

    Args:
        address: ``tcp://HOST:PORT`` (or tls, ws, wss) of a Dask scheduler, or ``local:N`` for N worker processes of
            this machine that end with the block; None: none, and None is what the block gets.

    Raises:
        ConfigError: neither of these forms.
        MissingDependencyError: the package distributed is not installed.
        ClusterError: no scheduler answers, or it has no worker.
    """
    if address is None:
        yield None
        return
    processes = PROCESSES.fullmatch(address)
    if not processes and not SCHEDULER.fullmatch(address):
        message = f"expected tcp://HOST:PORT of a Dask scheduler, local:N for N processes here, or off; got {address!r}"
        raise ConfigError(message, where=VARIABLE if os.environ.get(VARIABLE) else KEY)
    if find_spec("distributed") is None:
        raise MissingDependencyError(f"{KEY}: {address} needs the package distributed: pip install 'voxflow[scale]'")
    _quiet_logs()
    with contextlib.ExitStack() as stack:
        if processes:
            address = stack.enter_context(_processes_here(int(processes[1])))
        yield Cluster(stack.enter_context(_connect(address)), address)


class Cluster:
    """A connection to a Dask scheduler; an :class:`voxflow.executor.Executor`."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        self._workers: dict[str, Any] = {}
        self._seen = time.monotonic()
        self._asked = 0.0
        self._needs_gpu = False
        self._look()
        self._warn_of_threads()

    def require_memory(self, memory_mb: int) -> None:
        """Say it when a worker has less memory than one case may take."""
        for address, worker in self._workers.items():
            limit = (worker.get("memory_limit") or 0) / 2**20
            if 0 < limit < memory_mb:
                say(f"Dask worker {address} has {limit:.0f} MB, less than memory_mb: {memory_mb}; it may be killed")

    def prefer_gpus(self) -> None:
        """Give cases only to workers that offer a GPU, where there are any: all then take one engine."""
        self._needs_gpu = any(_offers_gpu(worker) for worker in self._workers.values())

    def run(
        self, work: Callable[[T], R], items: Sequence[T], lost: Callable[[T, str], R], *, into: Path
    ) -> Generator[tuple[int, R]]:
        """See :class:`voxflow.executor.Executor`.

        A case whose worker dies is given to another one, as often as the scheduler allows
        (``distributed.scheduler.allowed-failures``, 3 unless set).

        Raises:
            ClusterError: the scheduler is lost, all workers are gone, or one has other code or other folders.
        """
        run = _ClusterRun(self, work, lost, into)
        try:
            yield from run.results(items)
        finally:
            run.close()

    def submit(self, call: Call, item: object) -> Future:
        """Give one case to the scheduler."""
        resources = {"resources": {GPU: 1}} if self._needs_gpu else {}
        return self._client.submit(do_case, call, item, pure=False, key=f"case-{secrets.token_hex(8)}", **resources)

    def room(self) -> int:
        """How many cases to give to the scheduler at a time: no worker waits, and little lies in its memory."""
        return 2 + 2 * sum(int(worker["nthreads"]) for worker in self._workers.values())

    def check(self) -> None:
        """Look at the cluster now and then.

        Raises:
            ClusterError: the scheduler is lost, or there has been no worker for a minute.
        """
        if time.monotonic() - self._asked < POLL_S:
            return
        self.name_the_gone()
        if any(_offers_gpu(worker) or not self._needs_gpu for worker in self._workers.values()):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > ALL_GONE_S:
            kind = "workers that offer a GPU" if self._needs_gpu else "workers"
            raise ClusterError(f"the Dask scheduler at {self._address} has lost all of its {kind}")

    def name_the_gone(self) -> None:
        """Say which workers are no longer there.

        Raises:
            ClusterError: the scheduler is lost.
        """
        before = set(self._workers)
        self._look()
        for address in sorted(before - set(self._workers)):
            say(f"Dask worker {address} is gone; another one works on its cases")

    def lost(self) -> ClusterError:
        """The connection is gone."""
        return ClusterError(f"the connection to the Dask scheduler at {self._address} was lost")

    def give_up(self, futures: Sequence[Future], token: str) -> None:
        """Take cases back, and wait for those that are being worked on, so that nothing is written afterwards."""
        if self._client.status != "running":
            return
        with contextlib.suppress(Exception):
            self._client.cancel(list(futures), force=True)
            self._client.run(wait_until_idle, token, SETTLE_S, on_error="ignore")

    def _look(self) -> None:
        try:
            self._workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError, RuntimeError) as error:
            raise self.lost() from error
        self._asked = time.monotonic()

    def _warn_of_threads(self) -> None:
        many = [address for address, worker in self._workers.items() if worker["nthreads"] > 1]
        if many:
            say(
                f"Dask worker {many[0]} has {self._workers[many[0]]['nthreads']} threads, and works on one case at a "
                "time; start workers with --nthreads 1, and --nworkers for more"
            )


def _offers_gpu(worker: dict[str, Any]) -> bool:
    return bool((worker.get("resources") or {}).get(GPU))


@dataclass(frozen=True)
class _Killed:
    """Says how often a case's workers died, and where the last one was."""

    times: int
    last: str

    @property
    def reason(self) -> str:
        return f"{self.times} Dask workers died at work on it, the last at {self.last}; for want of memory?"


class _ClusterRun:
    """One function over the cases of one stage."""

    def __init__(self, cluster: Cluster, work: Callable[[Any], Any], lost: Callable[[Any, str], Any], into: Path):
        self._cluster, self._lost, self._into = cluster, lost, into
        self._token = secrets.token_hex(8)
        # The name of what is half done: swept away at the end, as that of a killed worker is.
        self._mark = into / f".partial-shared-{self._token}"
        self._mark.touch()
        self._call = Call(work, Path.cwd(), self._mark.absolute(), self._token, Identity.of_this_process())
        self._running: dict[str, tuple[int, Any, Future]] = {}
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()

    def results(self, items: Sequence[T]) -> Iterator[tuple[int, Any]]:
        suspects: list[tuple[int, T]] = []
        for number, item, answer in self._answers(list(enumerate(items)), None):
            if isinstance(answer, _Killed):
                suspects.append((number, item))
            else:
                yield number, answer
        # A case that only waited at a worker which died counts as at work there; alone, each is to blame for itself.
        for number, item, answer in self._answers(suspects, 1):
            yield number, self._lost(item, answer.reason) if isinstance(answer, _Killed) else answer
        with contextlib.suppress(ClusterError):
            self._cluster.name_the_gone()

    def _answers(self, items: Sequence[tuple[int, T]], room: int | None) -> Iterator[tuple[int, T, Any]]:
        remaining = deque(items)
        while remaining or self._running:
            while remaining and len(self._running) < (room or self._cluster.room()):
                self._submit(*remaining.popleft())
            self._cluster.check()
            with contextlib.suppress(queue.Empty):
                number, item, future = self._running.pop(self._done.get(timeout=POLL_S))
                yield number, item, self._answer(future)

    def close(self) -> None:
        if self._running:
            self._cluster.give_up([future for *_, future in self._running.values()], self._token)
        remove_partials(self._into)

    def _submit(self, number: int, item: object) -> None:
        future = self._cluster.submit(self._call, item)
        self._running[future.key] = (number, item, future)
        future.add_done_callback(lambda finished: self._done.put(finished.key))

    def _answer(self, future: Future) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            # A result that died with its worker is made again here, so that this may wait, and fail too.
            answer = future.result()
        except KilledWorker as error:
            return _Killed(error.allowed_failures + 1, error.last_worker.address)
        except (CancelledError, OSError, TimeoutError) as error:
            raise self._cluster.lost() from error
        if isinstance(answer, CaseError):
            raise answer.error
        return answer


@contextlib.contextmanager
def _processes_here(count: int) -> Iterator[str]:
    """Start a scheduler and workers that nobody else can reach; yields the scheduler's address.

    Where there are GPUs, each worker sees one of them alone.
    """
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    gpus = list_gpus()
    if 0 < len(gpus) < count:
        say(f"{count} processes share {len(gpus)} GPU(s) and their memory; local:{len(gpus)} gives each its own")
    with (
        tempfile.TemporaryDirectory(prefix="voxflow-dask-") as folder,
        LocalCluster(
            n_workers=0 if gpus else count,
            **({"memory_limit": MEMORY_LIMIT // count} if gpus else {}),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=folder,
            silence_logs=logging.CRITICAL,
            # Looking at the stack a hundred times a second takes a fifth of the time that imports do.
            config={"distributed.worker.profile.enabled": False},
        ) as cluster,
    ):
        for number in range(count if gpus else 0):
            ((name, spec),) = cluster.new_worker_spec().items()
            own = {"env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}, "resources": {GPU: 1}}
            cluster.worker_spec[name] = spec | {"options": spec["options"] | own}
        cluster.scale(count)
        yield str(cluster.scheduler_address)


@contextlib.contextmanager
def _connect(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="voxflow")
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}; start one with `dask scheduler`, or work on this machine alone "
            f"with {VARIABLE}={HERE}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError as error:
            raise ClusterError(
                f"the Dask scheduler at {address} has no worker; start one with `dask worker {address} --nthreads 1`"
            ) from error
        yield client


def _quiet_logs() -> None:
    """What a person shall know is said in lines of our own; Dask's loggers get their levels on import."""
    import distributed  # noqa: F401

    for name in ("distributed", "distributed.client", "distributed.scheduler", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
