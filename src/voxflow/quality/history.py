"""The history of validations: the results of every run, side by side, each with its Data Docs."""

from __future__ import annotations

import html
import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from voxflow.files import atomic_directory, temporary_folder, write_text
from voxflow.quality.docs import SKIP, STYLE

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 30
MAX_COLUMNS = 12
FORMAT = "%Y%m%dT%H%M%S%fZ"
_MORE = """
td.bad { background: #ffebe9; color: #82071e; } td.warn { background: #fff8c5; }
@media (max-width: 40rem) { table { width: max-content; min-width: 100%; } th { max-width: 12rem; } }
@media (prefers-color-scheme: dark) { td.bad { background: #67060c; color: #fff; } td.warn { background: #4d3800; } }
"""


def keep_history(history: Path, result: Path, title: str) -> Path:
    """Keep one run's result and write the page of all of them.

    The folder lies beside the stage's output, since DVC clears that away before every run.

    Args:
        history: a folder of its own; the oldest runs beyond 30 are deleted.
        result: holds report.json and docs/.
        title: of the page.

    Returns:
        The page.
    """
    run = history / datetime.now(UTC).strftime(FORMAT)
    with atomic_directory(run) as copy:
        shutil.copy(result / "report.json", copy)
        if (result / "docs").is_dir():
            shutil.copytree(result / "docs", copy / "docs")
    runs = sorted(path for path in history.iterdir() if (path / "report.json").is_file())
    with temporary_folder(history) as bin_folder:
        for old in runs[:-KEPT]:
            old.replace(bin_folder / old.name)
    page = history / "index.html"
    write_text(page, _render_page(title, [(path.name, _read_report(path)) for path in reversed(runs[-KEPT:])]))
    return page


def _read_report(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return report


def _render_page(title: str, runs: list[tuple[str, dict[str, Any]]]) -> str:
    rows = "".join(_render_run(name, report) for name, report in runs)
    newest = runs[:MAX_COLUMNS]
    heads = "".join(f'<th scope="col">{_format_time(name)}</th>' for name, _ in newest)
    names = list(dict.fromkeys(check["name"] for _, report in newest for check in report["checks"]))
    # Those that failed at any time come first.
    names.sort(key=lambda name: not any(_count_failures(report, name) for _, report in newest))
    checks = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f"{''.join(_render_cell(report, name) for _, report in newest)}</tr>"
        for name in names
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<style>{STYLE}{_MORE}</style></head><body>{SKIP}<main id="main"><h1>{html.escape(title)}</h1>'
        "<h2>Runs, the newest first</h2>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table><thead><tr><th scope="col">run</th>'
        '<th scope="col">cases</th><th scope="col">critical failed</th><th scope="col">warnings</th>'
        f'<th scope="col">Data Docs</th></tr></thead><tbody>{rows}</tbody></table></div><h2>Checks by run</h2>'
        "<p>The number of cases that fail; empty where the check was not made.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Checks by run"><table><thead><tr>'
        f'<th scope="col">check</th>{heads}</tr></thead><tbody>{checks}</tbody></table></div></main></body></html>\n'
    )


def _render_run(name: str, report: dict[str, Any]) -> str:
    failed = [check for check in report["checks"] if not check["success"]]
    critical = sum(check["severity"] == "critical" for check in failed)
    cells = (
        f"<td>{report['cases']}</td><td{' class=bad' if critical else ''}>{critical}</td>"
        f"<td{' class=warn' if len(failed) > critical else ''}>{len(failed) - critical}</td>"
    )
    docs = f'<td><a href="{name}/docs/index.html">Data Docs of {_format_time(name)}</a></td>'
    return f'<tr><th scope="row">{_format_time(name)}</th>{cells}{docs}</tr>'


def _render_cell(report: dict[str, Any], name: str) -> str:
    check = next((item for item in report["checks"] if item["name"] == name), None)
    if check is None:
        return "<td></td>"
    count = len(check["failures"])
    kind = "" if not count else " class=bad" if check["severity"] == "critical" else " class=warn"
    return f"<td{kind}>{count}</td>"


def _count_failures(report: dict[str, Any], name: str) -> int:
    return sum(len(check["failures"]) for check in report["checks"] if check["name"] == name)


def _format_time(name: str) -> str:
    return datetime.strptime(name, FORMAT).replace(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S")
