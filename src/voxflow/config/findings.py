"""Owns collecting what is wrong with a configuration, so that all of it is reported at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_SHOWN = 40


class Findings:
    """What is wrong with one file, one line a fault: file, JSON path, value, rule, nearest valid name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []

    def add(self, where: str, message: str) -> None:
        """Note a fault at a JSON path such as ``train.pre_transforms[3].args.a_min``."""
        self._lines.append(f"{self.path}: {where}: {message}")

    def raise_if_any(self) -> None:
        """Raise one ConfigError that holds every fault, capped at ``MAX_SHOWN``."""
        if not self._lines:
            return
        count = len(self._lines)
        shown = self._lines[:MAX_SHOWN]
        if count > MAX_SHOWN:
            shown.append(f"and {count - MAX_SHOWN} more")
        raise ConfigError(f"{count} fault{'s' if count > 1 else ''} in the configuration", findings=shown)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the nearest known name, or the known names where none is near."""
    names = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_lower[near[0]]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def show(value: Any, limit: int = 60) -> str:
    """A value as its fault shows it, shortened."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
