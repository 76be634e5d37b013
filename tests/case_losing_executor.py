"""An executor whose workers die at one case."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

T = TypeVar("T")
R = TypeVar("R")

REASON = "4 Dask workers died at work on it"


class CaseLosingExecutor:
    """Does every case but one, which it gives up; a single item is always done.

    Args:
        number: of the case.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def run(
        self,
        work: Callable[[T], R],
        items: Sequence[T],
        lost: Callable[[T, str], R],
        *,
        into: Path,
    ) -> Generator[tuple[int, R]]:
        assert into.is_dir()
        for number, item in reversed(list(enumerate(items))):
            yield number, lost(item, REASON) if number == self._number and len(items) > 1 else work(item)


class AllLosingExecutor:
    """Gives up every case."""

    def run(
        self, work: Callable[[T], R], items: Sequence[T], lost: Callable[[T, str], R], *, into: Path
    ) -> Generator[tuple[int, R]]:
        assert callable(work)
        assert into.is_dir()
        for number, item in enumerate(items):
            yield number, lost(item, REASON)
