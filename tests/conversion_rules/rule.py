"""A rule of conversion as its test sees it: an input just inside of it, one just outside, and the reason then given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """One row of the table "Rules" of docs/conversion.md.

    Attributes:
        name: the row's first cell.
        write: writes the input into a folder; its second argument says whether it is just inside of the rule.
        reason: what conversion.csv says of the input outside, in one row's ``reason``; a part of the text is enough.
        verdict: of that row.
        inside: the verdicts of all rows of the input inside, in the order of conversion.csv; None of its rows may hold
            ``reason``.
        inside_reason: a part of the reason that one of those rows holds, where a rule asks for one.
        options: of the conversion.
        check: looks at the output folders of both, the one inside first: voxels, units, cases.
    """

    name: str
    write: Callable[[Path, bool], None]
    reason: str
    verdict: str = "quarantined"
    inside: tuple[str, ...] = ("converted",)
    inside_reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Path, Path], None] | None = None
