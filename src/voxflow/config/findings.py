"""Owns collecting what is wrong with a configuration, so that all of it is reported at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from voxflow.components import Component, ComponentModel, Kind

MAX_SHOWN = 40

# One component that a reader held against the registry; without a model it is faulty.
Checked = tuple["Kind", "Component", "ComponentModel | None"]


class FaultyConfigError(ConfigError):
    """The faults of one file, and what could be read of it all the same.

    Attributes:
        faults: (JSON path, message) of each, uncapped.
        checked: every component that was read, faulty or not, in the order of the file.
    """

    def __init__(
        self, message: str, *, findings: Sequence[str], faults: Sequence[tuple[str, str]], checked: Sequence[Checked]
    ) -> None:
        self.faults = tuple(faults)
        self.checked = tuple(checked)
        super().__init__(message, findings=findings)


class Findings:
    """What is wrong with one file, one line a fault: file, JSON path, value, rule, nearest valid name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[tuple[str, str]] = []
        self.checked: list[Checked] = []

    def add(self, where: str, message: str) -> None:
        """Note a fault at a JSON path such as ``train.pre_transforms[3].args.a_min``."""
        self.faults.append((where, message))

    def raise_if_any(self) -> None:
        """Raise one ConfigError that holds every fault, capped at ``MAX_SHOWN``."""
        if not self.faults:
            return
        count = len(self.faults)
        shown = [f"{self.path}: {where}: {message}" for where, message in self.faults[:MAX_SHOWN]]
        if count > MAX_SHOWN:
            shown.append(f"and {count - MAX_SHOWN} more")
        message = f"{count} fault{'s' if count > 1 else ''} in the configuration"
        raise FaultyConfigError(message, findings=shown, faults=self.faults, checked=self.checked)


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
