"""Owns where the work on single cases runs, as the stages see it: one small protocol, and threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
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
