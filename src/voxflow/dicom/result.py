"""What became of a folder's images, before the tables are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.images import ConversionOutcome, ConversionRow, ConvertedCase


@dataclass(frozen=True)
class ConversionResult:
    """What became of a folder, before the tables are written.

    Attributes:
        rows: of conversion.csv.
        cases: of cases.csv.
        labels: the content of labels.json.
        notes: further counts for conversion.json.
        regions: the values of each class, where classes overlap.
        channels: names of the channels, where a case has several.
        ignore: the label value of voxels that nobody labelled.
    """

    rows: list[ConversionRow]
    cases: list[ConvertedCase]
    labels: dict[str, object]
    notes: dict[str, int]
    regions: dict[str, list[int]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    ignore: int | None = None


NO_DICOM = ConversionResult([], [], {}, {})


def flatten_outcomes(outcomes: Sequence[ConversionOutcome]) -> tuple[list[ConversionRow], list[ConvertedCase]]:
    """Join the rows and cases of several jobs, in their order."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    return rows, [case for outcome in outcomes for case in outcome.cases]
