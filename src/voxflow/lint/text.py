"""A report as text, for a terminal and a log."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.findings import Finding
    from voxflow.lint.report import CheckReport

RED, YELLOW, GREEN, BOLD, DIM, PLAIN = "\033[31m", "\033[33m", "\033[32m", "\033[1m", "\033[2m", "\033[0m"
COLOURS = {"error": RED, "warning": YELLOW, "note": BOLD}
WIDTH = len("warning")


def render_report(report: CheckReport, *, colours: bool) -> str:
    """Every finding below its file, then one line that counts them; lines are never broken.

    Args:
        report: what was found.
        colours: write ANSI colours; for terminals only.
    """
    lines: list[str] = []
    for file, findings in itertools.groupby(report.findings, key=lambda finding: finding.file):
        lines.append(_paint(file.as_posix(), BOLD, colours))
        for finding in findings:
            lines += _render_finding(finding, colours)
        lines.append("")
    return "\n".join([*lines, _render_counts(report, colours)]) + "\n"


def _render_finding(finding: Finding, colours: bool) -> list[str]:
    word = _paint(finding.severity.ljust(WIDTH), COLOURS[finding.severity], colours)
    code = _paint(f"[{finding.code}]", DIM, colours)
    indent = " " * (WIDTH + 4)
    lines = [
        f"  {word}  {finding.where} {code}" if finding.where else f"  {word}  {code}",
        f"{indent}{finding.message}",
    ]
    return [*lines, f"{indent}→ {finding.fix}"] if finding.fix else lines


def _render_counts(report: CheckReport, colours: bool) -> str:
    if not report.errors and not report.warnings:
        return f"check {report.workspace}: {_paint('nothing is wrong', GREEN, colours)}"
    parts = []
    for count, word in ((report.errors, "error"), (report.warnings, "warning")):
        if count:
            parts.append(_paint(f"{count} {word}{'s' if count > 1 else ''}", COLOURS[word], colours))
    return f"check {report.workspace}: {', '.join(parts)}"


def _paint(text: str, colour: str, colours: bool) -> str:
    return f"{colour}{text}{PLAIN}" if colours else text
