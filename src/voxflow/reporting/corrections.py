"""Reads what people corrected of the model's masks: by class, and by the month in which corrections came."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.reporting.tables import Table, make_table, parse_number
from voxflow.tables import Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voxflow.reporting.sources import ReportSources

NO_TABLE = Table()
COMPARED = ("label", "superseded", "held", "unchanged")
MEANINGS = {
    "label": "the label that is learned from",
    "superseded": "a later version took its place",
    "held": "compared, not learned from",
    "unchanged": "sent back as it was",
    "other": "no person's correction",
    "quarantined": "can't be used",
}
MEASURES = {
    "dice": "Dice of the mask and its correction",
    "added_ml": "added, ml",
    "removed_ml": "removed, ml",
    "surface_mm": "surface moved, mm",
    "outward_mm": "at most outward, mm",
    "inward_mm": "at most inward, mm",
    "earlier_dice": "Dice with the version before",
}


@dataclass(frozen=True)
class CorrectionTables:
    """What a report shows of corrections.

    Attributes:
        count: objects that came.
        states: how many objects became what.
        classes: how much was corrected, by class.
        months: the same by class and month.
        cases: every correction, the latest first.
    """

    count: int = 0
    states: Table = NO_TABLE
    classes: Table = NO_TABLE
    months: Table = NO_TABLE
    cases: Table = NO_TABLE


def tabulate_corrections(sources: ReportSources) -> CorrectionTables:
    """Tabulate the corrections of a workspace; nothing where none ever came.

    Args:
        sources: its folder of corrections holds corrections.csv and classes.csv, and that of volumes cases.csv.
    """
    folder = sources.corrections
    rows = (read_rows(folder / "corrections.csv") if folder else None) or []
    if folder is None or not rows:
        return CorrectionTables()
    by_object = {(row["sop_uid"], row["digest"]): row for row in rows if row["state"] in COMPARED}
    changes = [
        row | {"month": by_object[key]["received"][:7]}
        for row in read_rows(folder / "classes.csv") or []
        if (key := (row["sop_uid"], row["digest"])) in by_object and by_object[key]["state"] != "unchanged"
    ]
    cases = _name_cases(sources)
    counts = Counter(row["state"] for row in rows)
    states = [{"objects": str(counts[state]), "became": text} for state, text in MEANINGS.items() if counts[state]]
    return CorrectionTables(
        count=len(rows),
        states=make_table(states, missing=""),
        classes=make_table(_summarise(changes, lambda row: {"class": row["class"]}), missing="None was changed."),
        months=make_table(
            _summarise(changes, lambda row: {"month": row["month"], "class": row["class"]}), missing="None was changed."
        ),
        cases=make_table([_describe_case(row, cases) for row in reversed(rows)], missing=""),
    )


def _summarise(changes: Sequence[Row], name: Callable[[Row], dict[str, str]]) -> list[Row]:
    """A row for each group: how many corrections, and the mean of each measure; extremes of distances."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in changes:
        groups.setdefault(tuple(name(row).values()), []).append(row)
    return [
        name(rows[0]) | {"corrections": str(len(rows))} | _average(rows)
        for _, rows in sorted(groups.items(), key=lambda group: group[0])
    ]


def _average(rows: Sequence[Mapping[str, str]]) -> Row:
    summary: Row = {}
    for column, title in MEASURES.items():
        values = [value for row in rows if (value := parse_number(row.get(column))) is not None]
        if values:
            mean = max(values) if title.startswith("at most") else sum(values) / len(values)
            summary[title] = f"{mean:.3f}"
        else:
            summary[title] = ""
    return summary


def _name_cases(sources: ReportSources) -> dict[tuple[str, str], str]:
    """The case of each volume of a series today: a further study of a patient may number the patient's cases anew."""
    return {
        (uid, str(int(volume) - 1)): row["case"]
        for row in read_rows(sources.volumes / "cases.csv") or []
        if ";" not in (uid := row.get("series_uid") or "") and (volume := row.get("volume") or "1").isdecimal()
    }


def _describe_case(row: Row, cases: Mapping[tuple[str, str], str]) -> Row:
    return {
        "received": row["received"][:16].replace("T", " "),
        "case": cases.get((row["unit"], row["number"])) or row["case"] or row["patient"],
        "version": row["version"],
        "by": " ".join(text for text in (row["role"], row["author"]) if text),
        "part": row["part"],
        "became": row["state"],
        "why": row["reason"],
    }
