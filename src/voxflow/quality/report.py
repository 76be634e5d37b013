"""The file report.json: every check, its severity, and the cases that fail it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.errors import QualityError
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.quality.checks import CheckOutcome


def write_quality_report(path: Path, outcomes: Sequence[CheckOutcome], cases: int) -> None:
    """Write report.json, with the checks that failed first and the critical ones before the others.

    Args:
        path: the file, written whole or not at all.
        outcomes: of all checks.
        cases: how many were checked.
    """
    checks = [
        {
            "name": outcome.check.name,
            "column": outcome.check.column,
            "severity": outcome.check.severity,
            "success": outcome.success,
            "failures": outcome.failures,
        }
        for outcome in sorted(outcomes, key=lambda result: (result.success, result.check.severity != "critical"))
    ]
    write_json(path, {"success": all(result.success for result in outcomes), "cases": cases, "checks": checks})


def require_critical(outcomes: Sequence[CheckOutcome], report: Path) -> None:
    """Stop the DAG where a critical check failed.

    Args:
        outcomes: of all checks.
        report: where the whole report lies, for the message.

    Raises:
        QualityError: names each failed check with its cases.
    """
    failed = [
        outcome.format_line() for outcome in outcomes if not outcome.success and outcome.check.severity == "critical"
    ]
    if failed:
        raise QualityError("\n".join([f"{len(failed)} critical check(s) failed, see {report}", *failed]))
