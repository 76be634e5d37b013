"""Shows the progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from voxflow.redaction import hide_secrets

T = TypeVar("T")

PLAIN_INTERVAL_S = 10.0


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show on stderr how far the work is.

    Args:
        items: what is worked on; each counts as one step when the next is asked for.
        description: what is done to them, such as "converting".
        total: how many there are; taken from ``len(items)`` where it has one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=True)
    else:
        yield from _plain(items, description, total)


def _plain(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    last = time.monotonic()
    of_total = f" of {total}" if total is not None else ""
    for count, item in enumerate(items):
        if time.monotonic() - last >= PLAIN_INTERVAL_S:
            last = time.monotonic()
            say(f"{description}: {count}{of_total}")
        yield item


def say(line: str) -> None:
    """Write one line for a person to stderr, at once, and without secrets."""
    sys.stderr.write(hide_secrets(line) + "\n")
    sys.stderr.flush()
