"""The tables that conversion writes: cases.csv, conversion.csv, conversion.json and labels.json."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Literal, TypedDict

from voxflow.errors import shorten
from voxflow.files import atomic_path, write_json
from voxflow.tables import FINDING_PREFIX, LABELLED, MOST_CELL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.geometry import Geometry
    from voxflow.images.origins import RowOrigin

Verdict = Literal["converted", "remedied", "quarantined", "skipped"]
MAX_REASONS = 10


@dataclass(frozen=True)
class ConversionRow:
    """One row of conversion.csv: what became of one series, radiograph, label object or file.

    Attributes:
        verdict: "converted", "remedied" (with a change that ``reason`` tells), "quarantined" or "skipped".
        reason: in words, without anything of the patient's.
        modality: Modality (0008,0060), or the kind of file.
        files: how many it was made of.
        size, spacing_mm, orientation, units: of the volume.
        study_uid, series_uid: StudyInstanceUID (0020,000D), SeriesInstanceUID (0020,000E).
        case: the case that it became; empty where it became none.
        source: what its file or folder is called: the path below the source, or of DICOM a pseudonym of it.
        origin: where its files lie; no column.
    """

    verdict: Verdict
    reason: str = ""
    modality: str = ""
    files: int = 1
    size: str = ""
    spacing_mm: str = ""
    orientation: str = ""
    units: str = ""
    study_uid: str = ""
    series_uid: str = ""
    case: str = ""
    source: str = ""
    origin: RowOrigin | None = None


ROW_COLUMNS = tuple(f.name for f in fields(ConversionRow) if f.name != "origin")


@dataclass(frozen=True)
class ConvertedCase:
    """One row of cases.csv; ``findings`` becomes one column each, empty where unknown.

    ``volume`` is its number in the series, and ``instance_uid`` the lowest SOPInstanceUID of what it was made of.
    ``label_channels`` names one mask a label, joined by ";", where labels may overlap. ``subset`` is the part that the
    data set itself uses the case for, "training" or "testing", and ``labelled`` the classes that were labelled in the
    case, joined by ";", empty where all were; a table without any has no such column.
    """

    case: str
    patient: str
    modality: str
    image: str
    label: str = ""
    label_source: str = ""
    label_channels: str = ""
    study_uid: str = ""
    series_uid: str = ""
    volume: int | str = ""
    instance_uid: str = ""
    source: str = ""
    size: str = ""
    spacing_mm: str = ""
    orientation: str = ""
    units: str = ""
    remedy: str = ""
    subset: str = ""
    labelled: str = ""
    findings: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether something is known to train on: a mask, or every finding."""
        has_all_findings = bool(self.findings) and all(value is not None for value in self.findings.values())
        return bool(self.label) or has_all_findings


@dataclass(frozen=True)
class ConversionOutcome:
    """What one piece of the input became.

    Attributes:
        rows, cases: for the tables.
        label_values: the values that the label of an image file holds; 0 among them.
        combinations: the classes, by their values, that the higher values of the one case's label stand for.
    """

    rows: tuple[ConversionRow, ...]
    cases: tuple[ConvertedCase, ...] = ()
    label_values: tuple[int, ...] = ()
    combinations: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionSummary:
    """What a conversion made, counted.

    Attributes:
        series: rows of conversion.csv.
        converted, remedied, quarantined, skipped: rows by verdict.
        cases, labelled, patients: what cases.csv holds.
        reasons: why things were quarantined, one line each, in the order of conversion.csv.
    """

    series: int
    converted: int
    remedied: int
    quarantined: int
    skipped: int
    cases: int
    labelled: int
    patients: int
    reasons: tuple[str, ...]

    @classmethod
    def count(cls, rows: Sequence[ConversionRow], cases: Sequence[ConvertedCase]) -> ConversionSummary:
        """Count the rows of conversion.csv by verdict, and the cases and patients of cases.csv."""
        verdicts = [row.verdict for row in rows]
        quarantined = [(number, row) for number, row in enumerate(rows, start=1) if row.verdict == "quarantined"]
        return cls(
            series=len(rows),
            converted=verdicts.count("converted"),
            remedied=verdicts.count("remedied"),
            quarantined=verdicts.count("quarantined"),
            skipped=verdicts.count("skipped"),
            cases=len(cases),
            labelled=sum(case.is_labelled for case in cases),
            patients=len({case.patient for case in cases}),
            reasons=tuple(f"series {number} ({_name_row(row)}): {row.reason}" for number, row in quarantined),
        )

    @property
    def metrics(self) -> dict[str, int]:
        """The counts alone, by name, as ``dvc metrics`` shows them."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    def format_lines(self, target: Path) -> list[str]:
        """Format the summary for a person: the first reasons of quarantine, then one line with all counts.

        Args:
            target: the folder that was written, which the lines name.
        """
        reason_lines = [f"  quarantined: {reason}" for reason in self.reasons[:MAX_REASONS]]
        if self.quarantined > MAX_REASONS:
            reason_lines.append(f"  and {self.quarantined - MAX_REASONS} more, in {target / 'conversion.csv'}")
        remedied = f" ({self.remedied} with a remedy)" if self.remedied else ""
        counts = (
            f"{self.converted + self.remedied} of {self.series} series converted{remedied}, {self.quarantined} "
            f"quarantined, {self.skipped} skipped; {self.cases} cases of {self.patients} patients, "
            f"{self.labelled} labelled"
        )
        return [*reason_lines, f"{counts} → {target}"]


def _name_row(row: ConversionRow) -> str:
    return ", ".join(text for text in (row.modality, row.source) if text)


class GeometryTexts(TypedDict):
    """The geometry columns of a row or a case."""

    size: str
    spacing_mm: str
    orientation: str


def format_geometry(geometry: Geometry) -> GeometryTexts:
    """Format a grid as the geometry columns of a row or a case.

    Example:
        >>> from voxflow.geometry import Geometry
        >>> format_geometry(Geometry.from_parts((512, 512, 90), (0.75, 0.75, 3)))
        {'size': '512 512 90', 'spacing_mm': '0.75 0.75 3', 'orientation': 'LPS'}
    """
    return {
        "size": " ".join(str(n) for n in geometry.size),
        "spacing_mm": " ".join(f"{mm:.6g}" for mm in geometry.spacing),
        "orientation": geometry.orientation,
    }


def write_tables(
    folder: Path,
    rows: Sequence[ConversionRow],
    cases: Sequence[ConvertedCase],
    labels: Mapping[str, object],
    notes: Mapping[str, int],
) -> ConversionSummary:
    """Write all four files into ``folder`` and return their counts.

    Args:
        folder: the conversion's target.
        rows: what became of each series, in the order to be numbered.
        cases: what can be used.
        labels: the content of labels.json.
        notes: further counts for conversion.json, such as files that are no images.
    """
    summary = ConversionSummary.count(rows, cases)
    _write_rows(
        folder / "conversion.csv",
        ["series", *ROW_COLUMNS],
        ([number, *(getattr(row, name) for name in ROW_COLUMNS)] for number, row in enumerate(rows, start=1)),
    )
    findings = list(dict.fromkeys(name for case in cases for name in case.findings))
    columns = [f.name for f in fields(ConvertedCase) if f.name != "findings"]
    for column in ("subset", LABELLED):
        if not any(getattr(case, column) for case in cases):
            columns.remove(column)
    header = [*columns, *(FINDING_PREFIX + name for name in findings)]
    _write_rows(folder / "cases.csv", header, (_list_case_values(case, columns, findings) for case in cases))
    write_json(folder / "labels.json", dict(labels))
    write_json(folder / "conversion.json", {**summary.metrics, **notes, "reasons": list(summary.reasons)})
    return summary


def _list_case_values(case: ConvertedCase, columns: Sequence[str], findings: Sequence[str]) -> list[object]:
    finding_values = (case.findings.get(name) for name in findings)
    return [*(getattr(case, name) for name in columns), *("" if value is None else value for value in finding_values)]


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        # One line end on every system, so that equal tables are equal bytes.
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([shorten(cell, MOST_CELL) if isinstance(cell, str) else cell for cell in row] for row in rows)


def describe_labels(names: Iterable[str], values: Mapping[str, int]) -> dict[str, str]:
    """Describe labels as labels.json does: value → name as it was first written; 0 is the background.

    Args:
        names: of all segments, ROIs or files, as they are written.
        values: value by case-folded name; names without one are left out.

    Example:
        >>> describe_labels(["Spleen", "Liver", "vein"], {"liver": 1, "spleen": 2})
        {'0': 'background', '1': 'Liver', '2': 'Spleen'}
    """
    name_by_value = {0: "background"}
    for name in sorted(names):
        if name.casefold() in values:
            name_by_value.setdefault(values[name.casefold()], name)
    return {str(value): name_by_value[value] for value in sorted(name_by_value)}
