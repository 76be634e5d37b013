"""Runs checks on a table by Great Expectations, and reads the results of each case."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from voxflow.errors import QualityError, join_names
from voxflow.quality.docs import make_self_contained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

Severity = Literal["critical", "warning"]
Kind = Literal["range", "set", "values", "true", "unique"]
SITE = "docs"
TRAINED_ON = ("training", "validation", "testing")


@dataclass(frozen=True)
class DataCheck:
    """One expectation of one column.

    Attributes:
        name: what it says, in words.
        column: of the table.
        kind: "range" (bounds, either may be None), "set" (allowed values), "values" (a cell lists values
            separated by blanks, all of them allowed), "true", "unique".
        bounds: for range, set and values.
        severity: whether a miss stops the DAG.
        optional: empty cells are allowed.
    """

    name: str
    column: str
    kind: Kind
    bounds: tuple[Any, ...] = ()
    severity: Severity = "critical"
    optional: bool = False

    def with_severity(self, severity: str) -> DataCheck:
        """Copy the check with another severity, "critical" or "warning"."""
        return dataclasses.replace(self, severity="critical" if severity == "critical" else "warning")

    def to_expectation(self) -> Any:
        """Turn the check into an expectation of Great Expectations.

        Returns:
            A subclass of its ``Expectation``, with the check's name as its description.
        """
        import great_expectations.expectations as gxe

        shared = {"column": self.column, "severity": self.severity, "description": self.name}
        if self.kind == "range":
            return gxe.ExpectColumnValuesToBeBetween(min_value=self.bounds[0], max_value=self.bounds[1], **shared)
        if self.kind == "values":
            value = "|".join(map(str, self.bounds))
            return gxe.ExpectColumnValuesToMatchRegex(regex=rf"^(?:{value})(?: (?:{value}))*$", **shared)
        if self.kind == "unique":
            return gxe.ExpectColumnValuesToBeUnique(**shared)
        return gxe.ExpectColumnValuesToBeInSet(value_set=[True] if self.kind == "true" else list(self.bounds), **shared)


@dataclass(frozen=True)
class CheckOutcome:
    """What became of a check.

    Attributes:
        check: the check.
        success: whether every case holds it.
        failures: value by case, for those that do not.
    """

    check: DataCheck
    success: bool
    failures: dict[str, str] = field(default_factory=dict)

    def format_line(self) -> str:
        """Format the outcome as one line for a person: the check, and the first five cases that fail it.

        Example:
            >>> check = DataCheck("rows", "rows", "range", (4, 4096))
            >>> CheckOutcome(check, success=False, failures={"a_1": "2"}).format_line()
            'rows: a_1 (2)'
        """
        cases = [f"{case} ({value})" for case, value in self.failures.items()]
        return f"{self.check.name}: {join_names(cases, 5)}"


def run_checks(
    table: pd.DataFrame, checks: Sequence[DataCheck], *, name: str, docs: Path | None = None
) -> list[CheckOutcome]:
    """Check a table with a ``case`` column.

    Args:
        table: one row a case.
        checks: those whose column the table lacks fail for every case, unless they are optional.
        name: of the suite, as the Data Docs show it.
        docs: folder for the browsable Data Docs; None: none.
    """
    # Nothing can be measured of a file that can't be read; that alone is the finding.
    unread = set(table.loc[~table["readable"].astype(bool), "case"].astype(str)) if "readable" in table else set()
    present = [check for check in checks if check.column in table.columns]
    absent = [check for check in checks if check.column not in table.columns and not check.optional]
    required = [check for check in present if not check.optional]
    empty = {check.column: list(table.loc[table[check.column].isna(), "case"].astype(str)) for check in required}
    results = _validate(table, present, name, docs)
    outcomes = [
        _build_outcome(check, result, [case for case in empty.get(check.column, []) if case not in unread])
        for check, result in zip(present, results, strict=True)
    ]
    cases = [case for case in table["case"].astype(str) if case not in unread]
    if "reason" in table:
        reasons = dict(zip(table["case"].astype(str), table["reason"], strict=True))
        outcomes = [
            _replace_values_by_reasons(outcome, reasons) if outcome.check.column == "readable" else outcome
            for outcome in outcomes
        ]
    return outcomes + [CheckOutcome(check, not cases, dict.fromkeys(cases, "missing")) for check in absent]


def require_separate_patients(table: pd.DataFrame) -> None:
    """Make sure that no patient is in two of training, validation and testing.

    Args:
        table: one row a case with ``patient`` and ``part``.

    Raises:
        QualityError: names the patients.
    """
    parts = table[table["part"].isin(TRAINED_ON)].groupby("patient")["part"].nunique()
    frame = parts.rename("parts").rename_axis("case").reset_index()
    (outcome,) = run_checks(frame, [DataCheck("patient is in one part only", "parts", "range", (1, 1))], name="split")
    if not outcome.success:
        raise QualityError(f"leakage: {outcome.format_line()}")


def _validate(table: pd.DataFrame, checks: Sequence[DataCheck], name: str, docs: Path | None) -> list[Any]:
    with warnings.catch_warnings():
        # Deprecations inside great_expectations are not this project's to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations as gx

        # The second one sets a level of its own and announces its temporary folders.
        for noisy in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        logging.getLogger("great_expectations.render.renderer.site_builder").addFilter(_raise_write_error)
        context = gx.get_context(mode="ephemeral", project_config=_build_project_config())
        if docs is not None:
            context.add_data_docs_site(site_name=SITE, site_config=_build_site_config(docs))
        batches = context.data_sources.add_pandas(name).add_dataframe_asset("cases")
        definition = batches.add_batch_definition_whole_dataframe("all cases")
        suite = gx.ExpectationSuite(name=name, expectations=[check.to_expectation() for check in checks])
        validation = gx.ValidationDefinition(name=name, data=definition, suite=context.suites.add(suite))
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(validation)],
            actions=[gx.checkpoint.UpdateDataDocsAction(name=SITE)] if docs is not None else [],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["case"]},
        )
        # The name stands in the address and on the page of the results.
        run = gx.core.run_identifier.RunIdentifier(run_name="checks")
        result = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table}, run_id=run)
        (validated,) = result.run_results.values()
    if docs is not None:
        make_self_contained(docs, f"Data quality of {name}", _draw_histograms(table, checks))
    by_key = {(r.expectation_config.type, r.expectation_config.description): r for r in validated.results}
    return [by_key[(check.to_expectation().expectation_type, check.name)] for check in checks]


def _draw_histograms(table: pd.DataFrame, checks: Sequence[DataCheck]) -> dict[str, str]:
    """A drawing for each column of numbers that a check bounds, by column; bars beyond the bounds stand out."""
    from voxflow.reporting import draw_histogram

    drawings = {}
    for check in checks:
        if check.kind != "range" or check.column not in table:
            continue
        values = [float(v) for v in table[check.column] if isinstance(v, int | float) and math.isfinite(v)]
        drawings[check.column] = draw_histogram(values, x_title=check.column, bounds=(check.bounds[0], check.bounds[1]))
    return drawings


def _raise_write_error(record: logging.LogRecord) -> bool:
    """Raise what Great Expectations only logs: a page that could not be written, on a full disk say."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError):
        raise error
    return True


def _build_project_config() -> Any:
    """A project that lives in memory only; the default one leaves empty folders behind."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _build_site_config(docs: Path) -> dict[str, Any]:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": store,
    }


def _replace_values_by_reasons(outcome: CheckOutcome, reasons: dict[str, str]) -> CheckOutcome:
    return dataclasses.replace(outcome, failures={case: reasons[case] for case in outcome.failures})


def _build_outcome(check: DataCheck, result: Any, empty: Sequence[str]) -> CheckOutcome:
    rows = result.result.get("unexpected_index_list") or []
    failures = {str(row["case"]): str(row[check.column]) for row in rows} | dict.fromkeys(empty, "missing")
    # A check that raised inside of Great Expectations has no cases; silence would pass for success.
    if not result.success and not failures:
        raise QualityError(f"the check {check.name!r} could not be run: {result.exception_info}")
    return CheckOutcome(check, bool(result.success) and not failures, failures)
