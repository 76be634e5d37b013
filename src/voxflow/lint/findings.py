"""Owns what a check finds: one finding, and all of them as a report."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxflow.errors import ConfigError

Severity = Literal["error", "warning"]
SCHEMA = 1
MAX_ALIKE = 10  # of one kind in one file; a wrong root makes every path of a datalist wrong


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: "error": training or evaluation would stop, or learn something wrong; "warning": it runs, but
            perhaps not as meant.
        code: what kind of thing it is, such as "unknown-argument"; stable from version to version.
        file: the file that holds it.
        where: the JSON path in the file, or "line 3, column 5"; empty: the file as a whole.
        message: what is wrong, with the value.
        fix: what to write or do instead.
    """

    severity: Severity
    code: str
    file: Path
    where: str
    message: str
    fix: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        place = f"{self.where}: " if self.where else ""
        return f"{self.file}: {place}{self.message}" + (f"; {self.fix}" if self.fix else "")

    def to_json(self) -> dict[str, str]:
        """Its fields as a JSON object of strings."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.file.as_posix(),
            "path": self.where,
            "message": self.message,
            "fix": self.fix,
        }


@dataclass
class Report:
    """Every finding of one workspace, in the order of the files checked.

    Attributes:
        workspace: what was checked, as the user named it.
        findings: what is wrong.
    """

    workspace: str
    findings: list[Finding] = field(default_factory=list)

    def at(self, file: Path) -> Notes:
        """Where to note what is wrong with one file."""
        return Notes(self, _shown(file))

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return len(self.findings) - self.errors

    def sort(self) -> None:
        """Order by file, in the order that the files were checked; errors first within each."""
        files = list(dict.fromkeys(finding.file for finding in self.findings))
        self.findings.sort(key=lambda finding: (files.index(finding.file), finding.severity))

    def to_json(self) -> dict[str, Any]:
        """The whole report as docs/check.md describes it."""
        return {
            "schema": SCHEMA,
            "workspace": self.workspace,
            "ok": not self.errors,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def raise_errors(self) -> None:
        """Raise one ConfigError that holds every error; warnings alone pass."""
        lines = [finding.line for finding in self.findings if finding.severity == "error"]
        if lines:
            raise ConfigError(f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the workspace", findings=lines)


@dataclass(frozen=True)
class Notes:
    """What is wrong with one file."""

    report: Report
    file: Path

    def error(self, code: str, where: str, message: str, fix: str = "") -> None:
        """Note what would stop the work or make it wrong."""
        self._add(Finding("error", code, self.file, where, message, fix))

    def warning(self, code: str, where: str, message: str, fix: str = "") -> None:
        """Note what runs, but perhaps not as meant."""
        self._add(Finding("warning", code, self.file, where, message, fix))

    def many(self, severity: Severity, code: str, items: list[tuple[str, str, str]]) -> None:
        """Note alike things as (where, message, fix): the first ten, then how many more."""
        for where, message, fix in items[:MAX_ALIKE]:
            self._add(Finding(severity, code, self.file, where, message, fix))
        if len(items) > MAX_ALIKE:
            self._add(Finding(severity, code, self.file, "", f"and {len(items) - MAX_ALIKE} more like this", ""))

    def _add(self, finding: Finding) -> None:
        if finding not in self.report.findings:
            self.report.findings.append(finding)

    def has(self, where: str) -> bool:
        """Whether something is noted at this JSON path, above it or below it already."""
        return any(
            finding.file == self.file and _touch(finding.where, where)
            for finding in self.report.findings
            if finding.where
        )


def _touch(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or longer.startswith((f"{shorter}.", f"{shorter}["))


def _shown(file: Path) -> Path:
    """The path from the present folder where it lies below it."""
    absolute, here = Path(os.path.normpath(file.absolute())), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
