"""Where the work on single cases runs: one small protocol, and threads and processes of this machine."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Protocol, TypeVar

from voxflow.machine import count_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
R = TypeVar("R")


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
    """Threads of this process, for work that spends its time outside of Python.

    Args:
        count: how many.
    """

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


@contextmanager
def process_map(workers: int | None) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a ``map`` that keeps the order and works in several processes where that is asked for."""
    count = workers or count_cores()
    if count == 1:
        yield map
        return
    # Spawned, since a fork of a process with threads (SimpleITK's, torch's) may hang.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=1 if _few(items, count) else 64)


@contextmanager
def thread_map(workers: int | None) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a ``map`` that keeps the order, for work that spends its time outside of Python."""
    with ThreadPoolExecutor(workers or count_cores()) as pool:
        yield pool.map


def _few(items: Iterable[T], count: int) -> bool:
    return isinstance(items, list) and len(items) < 64 * count
