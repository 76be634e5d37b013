"""The account of a migration: what became of every component, as a table and as JSON."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from voxflow.tables import escape_cell

Verdict = Literal["exact", "approximate", "not carried"]
VERDICTS: tuple[Verdict, ...] = ("exact", "approximate", "not carried")


@dataclass(frozen=True)
class MigrationEntry:
    """What became of one component or value.

    Attributes:
        where: its JSON path in the configuration.
        name: what stood there.
        becomes: the classes that stand for it in the bundle; empty when nothing is needed or nothing was carried.
        verdict: "exact": the same mathematics; "approximate": the same purpose, ``why`` says what differs;
            "not carried": the bundle lacks it, ``why`` says why or what to do.
        why: a sentence; may be empty where the verdict is "exact".
    """

    where: str
    name: str
    becomes: str
    verdict: Verdict
    why: str = ""


@dataclass
class MigrationReport:
    """Every entry in the order of the configuration."""

    entries: list[MigrationEntry] = field(default_factory=list)

    def add(self, json_path: str, name: str, becomes: str, verdict: Verdict, why: str = "") -> None:
        """Note what became of one component or value; the arguments are the fields of :class:`MigrationEntry`."""
        self.entries.append(MigrationEntry(json_path, name, becomes, verdict, why))

    def count(self, verdict: Verdict) -> int:
        """How many entries have this verdict."""
        return sum(entry.verdict == verdict for entry in self.entries)

    def summary(self) -> str:
        """Count the verdicts in one line.

        Example:
            >>> report = MigrationReport()
            >>> report.add("train.loss", "Dice", "DiceLoss", "exact")
            >>> report.add("train.loss_weight", "3", "", "not carried", "MONAI has no such value")
            >>> report.summary()
            '1 exact, 0 approximate, 1 not carried'
        """
        return ", ".join(f"{self.count(verdict)} {verdict}" for verdict in VERDICTS)

    def as_json(self) -> dict[str, Any]:
        """The counts and every entry."""
        counts = {verdict: self.count(verdict) for verdict in VERDICTS}
        return {"counts": counts, "components": [asdict(entry) for entry in self.entries]}

    def lines(self, width: int = 100) -> list[str]:
        """Return the table for a terminal: one line an entry, its reason indented below.

        Args:
            width: characters after which a reason is wrapped.
        """
        places = [(f"{entry.where}: {entry.name}", entry) for entry in self.entries]
        first = max((len(place) for place, _ in places), default=0)
        lines: list[str] = []
        for place, entry in places:
            lines.append(
                f"{entry.verdict:<11}  {place:<{first}}  {'→ ' + entry.becomes if entry.becomes else ''}".rstrip()
            )
            lines += textwrap.wrap(entry.why, width, initial_indent=" " * 13, subsequent_indent=" " * 13)
        return lines

    def markdown(self) -> str:
        """The table for the bundle's README."""
        rows = ["| place | component | in the bundle | verdict | why |", "|---|---|---|---|---|"]
        for entry in self.entries:
            cells = (entry.where, entry.name, entry.becomes, entry.verdict, entry.why)
            rows.append("| " + " | ".join(escape_cell(cell) for cell in cells) + " |")
        return "\n".join(rows) + "\n"
