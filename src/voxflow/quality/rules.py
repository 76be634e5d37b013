"""Custom suites: rules for each modality in params.yaml, which ``voxflow profile`` makes and users edit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voxflow.errors import ConfigError, DataError
from voxflow.quality.checks import CheckOutcome, DataCheck, run_checks
from voxflow.quality.docs import write_docs_index

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

# What profiling looks at: what a protocol or a scanner decides. Which values labels hold, labels.json says.
PROFILED = (
    *(f"{quantity}_{axis}" for quantity in ("spacing", "size") for axis in "ijk"),
    "rows",
    "columns",
    *("percentile_1", "percentile_99", "deviation", "minimum", "maximum", "label_voxels"),
)
MARGIN = 0.1  # of the range that the data have, to each side
CONSTANT_MARGIN = 0.05  # of the value, where all cases have the same
DIGITS = 4
MIN_CASES = 5


class Rule(BaseModel):
    """One rule of a suite.

    Attributes:
        range: least and greatest value; null leaves a side open.
        values: or the values that are allowed.
        severity: "critical" stops the graph before anything is trained.
        optional: a case without the value is no failure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    range: tuple[float | None, float | None] | None = None
    values: tuple[str | int | float, ...] | None = Field(default=None, min_length=1)
    severity: Literal["critical", "warning"] = "warning"
    optional: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Rule:
        if (self.range is None) == (self.values is None):
            raise ValueError("a rule has either a range or values")
        return self

    def to_check(self, column: str, modality: str) -> DataCheck:
        """Turn the rule into a check of a measured column.

        Args:
            column: of measurements.csv.
            modality: whose cases are checked; part of the check's name.

        Example:
            >>> rule = Rule(range=(0.5, 3), severity="critical")
            >>> rule.to_check("spacing_k", "CT").name
            'spacing k is usual for CT'
        """
        kind: Literal["range", "set"] = "range" if self.range is not None else "set"
        bounds = self.range if self.range is not None else self.values or ()
        name = f"{column.replace('_', ' ')} is usual for {modality}"
        return DataCheck(name, column, kind, tuple(bounds), severity=self.severity, optional=self.optional)


def profile_suites(measured: pd.DataFrame) -> dict[str, dict[str, dict[str, object]]]:
    """Make suites that the present data hold, a little widened, as they stand in params.yaml.

    Returns:
        modality → column → ``{"range": [low, high], "severity": "warning"}``.

    Raises:
        DataError: no modality has enough cases to say what is usual.
    """
    import pandas as pd

    suites: dict[str, dict[str, dict[str, object]]] = {}
    for modality, rows in measured.groupby("modality"):
        if len(rows) < MIN_CASES:
            continue
        # Of several channels, each has columns of its own: percentile_99:PET.
        present = [str(column) for column in rows]
        columns = [c for name in PROFILED for c in present if c == name or c.startswith(f"{name}:")]
        numbers = {column: pd.to_numeric(rows[column], errors="coerce").dropna() for column in columns}
        suites[str(modality)] = {
            column: {"range": _widen_range(float(values.min()), float(values.max())), "severity": "warning"}
            | ({"optional": True} if len(values) < len(rows) else {})
            for column, values in numbers.items()
            if len(values)
        }
    if not suites:
        raise DataError(f"no modality has {MIN_CASES} cases, too few to say what is usual")
    return suites


def run_suites(
    measured: pd.DataFrame, suites: Mapping[str, Mapping[str, Rule]], *, docs: Path | None
) -> list[CheckOutcome]:
    """Check the cases of each modality against its suite.

    Args:
        measured: measurements.csv.
        suites: modality → column → rule.
        docs: folder for the Data Docs, one folder a modality; None: none.

    Raises:
        ConfigError: a rule is about a column that is not measured.
    """
    outcomes: list[CheckOutcome] = []
    for modality, rules in suites.items():
        unknown = [column for column in rules if column not in measured.columns]
        if unknown:
            columns = ", ".join(column for column in PROFILED if column in measured.columns)
            raise ConfigError(f"validate.suites.{modality}: {', '.join(unknown)} is not measured; known: {columns}")
        rows = measured[measured["modality"] == modality].reset_index(drop=True)
        if len(rows):
            checks = [rule.to_check(column, modality) for column, rule in rules.items()]
            # A folder each: Great Expectations clears a site away before it builds it.
            outcomes += run_checks(rows, checks, name=modality, docs=docs / modality if docs else None)
    if docs is not None and outcomes:
        write_docs_index(docs, "Data quality")
    return outcomes


def _widen_range(low: float, high: float) -> list[float]:
    margin = MARGIN * (high - low) or CONSTANT_MARGIN * abs(high)
    return [_round_outwards(low - margin, down=True), _round_outwards(high + margin, down=False)]


def _round_outwards(value: float, *, down: bool) -> float:
    """To a few digits, outwards, so that the data that it came from still lie within."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    steps = math.floor(value / step) if down else math.ceil(value / step)
    return float(f"{steps * step:.{DIGITS + 1}g}")
