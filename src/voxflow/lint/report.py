"""The report of a check: every finding of one workspace, in the order of its files."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError
from voxflow.findings import Finding, FindingCollector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxflow.config import Workflow

SCHEMA = 1
SEVERITIES = ("error", "warning", "note")


@dataclass
class CheckReport:
    """Every finding of one workspace, in the order of the files checked.

    Attributes:
        workspace: what was checked, as the user named it.
        findings: what is wrong.
        workflow: the training configuration as the check read it; None where there is none or it has a fault.
    """

    workspace: str
    findings: list[Finding] = field(default_factory=list)
    workflow: Workflow | None = None

    def at(self, file: Path) -> FindingCollector:
        """Return the collector of one file, whose findings stand in this report.

        Args:
            file: shown as a path from the present folder where it lies below it.
        """
        return FindingCollector(_relative_path(file), self.findings)

    def add(self, findings: Iterable[Finding]) -> None:
        """Take over findings of a reader, with their files as the report shows them."""
        for finding in findings:
            self.at(finding.file).add(replace(finding, file=_relative_path(finding.file)))

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)

    def sort(self) -> None:
        """Order by file, in the order that the files were checked; errors first within each, notes last."""
        files = list(dict.fromkeys(finding.file for finding in self.findings))
        self.findings.sort(key=lambda finding: (files.index(finding.file), SEVERITIES.index(finding.severity)))

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as docs/check.md describes it: plain values, findings in the report's order."""
        return {
            "schema": SCHEMA,
            "workspace": self.workspace,
            "ok": not self.errors,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def raise_errors(self) -> None:
        """Raise one exception that holds every error; warnings alone pass.

        Raises:
            ConfigError: there are errors; each is a line of its ``findings``.
        """
        lines = [finding.line for finding in self.findings if finding.severity == "error"]
        if lines:
            raise ConfigError(f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the workspace", findings=lines)

    def require_workflow(self) -> Workflow:
        """Return the training configuration that was checked, with every component parsed.

        Raises:
            ConfigError: the workspace has errors, or no training configuration.
        """
        self.raise_errors()
        if self.workflow is None:
            raise ConfigError(f"{self.workspace} has no training configuration")
        return self.workflow


def _relative_path(file: Path) -> Path:
    """The path from the present folder where it lies below it."""
    absolute, folder = Path(os.path.normpath(file.absolute())), Path.cwd()
    return absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute
