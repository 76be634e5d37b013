"""Sending records between processes quickly: a folder has tens of thousands of headers."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class QuickPickle:
    """The base of frozen dataclasses that travel by their values alone, in half of the time that theirs takes."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Give the class, and the values that it is made of."""
        record: Any = type(self)
        return record, _make_getter(record)(self)


@cache
def _make_getter(record: Any) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(record)))
