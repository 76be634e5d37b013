"""Where the work on single cases runs: one small protocol, and threads and processes of this machine.

A worker process may die: the kernel kills it for want of memory, or a library aborts. Each has a pipe of its own, so
that it is known what it was at; only this is tried again, alone, and given up if a second process dies at it. The other
workers go on. Workers end with the process that started them, however that ends.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import select
import signal
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import connection as connections
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from voxflow.errors import VoxflowError
from voxflow.machine import count_cores
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

T = TypeVar("T")
R = TypeVar("R")

# Many short items travel together; few may each take long.
CHUNK = 64


class Executor(Protocol):
    """Runs one function over many cases, here or elsewhere."""

    def run(
        self, work: Callable[[T], R], items: Sequence[T], lost: Callable[[T, str], R], *, into: Path
    ) -> Generator[tuple[int, R]]:
        """Work on every item; each result comes with its item's number, in any order.

        Whoever does not take all of them closes the generator, so that nothing is written afterwards.

        Args:
            work: a function that a process elsewhere can import too. It writes its files below ``into`` and returns
                little. What it raises ends the whole run.
            items: what it is called with, one at a time.
            lost: makes the result of an item whose worker died again and again, from the item and the reason.
            into: the folder that the files are written to.
        """


class Threads:
    """Threads of this process, for work that spends its time outside of Python."""

    def __init__(self, count: int) -> None:
        self._count = count

    def run(
        self,
        work: Callable[[T], R],
        items: Sequence[T],
        lost: Callable[[T, str], R],
        *,
        into: Path,
    ) -> Generator[tuple[int, R]]:
        """See :class:`Executor`; in the order of the items."""
        with ThreadPoolExecutor(self._count) as pool:
            yield from enumerate(pool.map(work, items))


class ProcessMap(Protocol):
    """A ``map`` that keeps the order."""

    def __call__(
        self, work: Callable[[T], R], items: Iterable[T], lost: Callable[[T, str], R], /
    ) -> Generator[R] | Iterator[R]:
        """Work on every item; ``lost`` makes the result of one whose process died twice, from it and the reason."""


@contextmanager
def process_map(workers: int | None) -> Iterator[ProcessMap]:
    """Yield a ``map`` that keeps the order and works in several processes where that is asked for."""
    count = workers or count_cores()
    if count == 1:
        yield lambda work, items, lost: map(work, items)
        return
    yield lambda work, items, lost: _map_in_processes(count, work, list(items), lost)


def _map_in_processes(
    count: int, work: Callable[[T], R], items: Sequence[T], lost: Callable[[T, str], R]
) -> Generator[R]:
    size = 1 if len(items) < CHUNK * count else CHUNK
    chunks = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]
    results: dict[int, R] = {}
    suspects: list[int] = []
    position = 0
    for numbers, answer in _run_chunks(count, work, items, chunks):
        if isinstance(answer, str):
            say(f"a worker process {answer}; what it was at is tried again, alone")
            suspects += numbers
        else:
            results.update(zip(numbers, answer, strict=True))
        while position in results:
            yield results.pop(position)
            position += 1
    for numbers, answer in _run_chunks(1, work, items, [range(n, n + 1) for n in sorted(suspects)]):
        for n in numbers:
            results[n] = lost(items[n], f"its worker process {answer}") if isinstance(answer, str) else answer[0]
    yield from (results[n] for n in sorted(results))


def _run_chunks(
    count: int, work: Callable[[T], R], items: Sequence[T], chunks: Sequence[range]
) -> Generator[tuple[range, list[R] | str]]:
    """Work on chunks of items in processes; each comes with its results, or with the reason why its process died."""
    pending, workers = deque(chunks), [_Worker() for _ in range(min(count, len(chunks)))]
    busy: dict[Any, tuple[_Worker, range]] = {}
    try:
        while pending or busy:
            while pending and workers:
                numbers, worker = pending.popleft(), workers.pop()
                worker.send(work, [items[n] for n in numbers])
                busy[worker.connection] = worker, numbers
            for connection in connections.wait(list(busy)):
                worker, numbers = busy.pop(connection)
                try:
                    is_done, answer = worker.connection.recv()
                except (EOFError, OSError):
                    yield numbers, worker.explain_death()
                    worker = _Worker() if pending else worker
                else:
                    if not is_done:
                        raise answer
                    yield numbers, answer
                workers.append(worker)
    finally:
        for worker in [*workers, *(worker for worker, _ in busy.values())]:
            worker.kill()


class _Worker:
    """One process that works on what it is sent."""

    def __init__(self) -> None:
        # Spawned, since a fork of a process with threads (SimpleITK's, torch's) may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, remote_end = context.Pipe()
        self._process = context.Process(target=_serve_parent, args=(remote_end,), daemon=True)
        self._process.start()
        # This process must not hold it open: its end tells that the worker is dead.
        remote_end.close()

    def send(self, work: Callable[[T], R], items: list[T]) -> None:
        # A process that is dead is found so when it is asked for its answer.
        with suppress(OSError):
            self.connection.send((work, items))

    def explain_death(self) -> str:
        self._process.join(timeout=10)
        code = self._process.exitcode or 0
        cause = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"was ended {cause}{', as for want of memory' if code == -signal.SIGKILL else ''}"

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve_parent(connection: Connection) -> None:
    """Do what the parent sends until it wants no more, in a process of its own."""
    _end_with_parent()
    # Ctrl-C reaches the whole group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            work, items = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, object] = True, [work(item) for item in items]
        except Exception as error:  # noqa: BLE001 - raised where the map is
            error.add_note("".join(traceback.format_exception(error)))
            answer = False, make_portable(error)
        connection.send(answer)


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent is gone, even one that was killed and could not say so.

    multiprocessing gives each child the end of a pipe whose other end closes with the parent. SIGIO then comes, whose
    default action ends a process, also one that is busy in C.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([parent.sentinel], [], [], 0)[0]:
        os._exit(1)


def make_portable(error: Exception) -> Exception:
    """Give an error that can travel between processes: the same, or its words where it can't."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - written on the line itself
    except Exception:  # noqa: BLE001 - whatever its class does
        return VoxflowError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def thread_map(workers: int | None) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a ``map`` that keeps the order, for work that spends its time outside of Python."""
    with ThreadPoolExecutor(workers or count_cores()) as pool:
        yield pool.map
