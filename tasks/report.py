"""Write the report of a workspace, its case viewer, and a model card from the results of the other stages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.common.stage import Stage, main
from voxflow.errors import EXIT_OK
from voxflow.progress import say
from voxflow.reporting import ReportOptions, ReportSources, write_report
from voxflow.tracking import continue_run, read_run_file
from voxflow.viewing import list_workspace_cases, write_viewer

if TYPE_CHECKING:
    from pathlib import Path


def run(stage: Stage) -> int:
    """Write report.html, viewer.html and model_card.md, and keep them with the MLflow run of the training.

    What a stage has not left yet is told on the page; it is no error.
    """
    options = stage.options(ReportOptions)
    page, card = stage.evaluation / "report.html", stage.evaluation / "model_card.md"
    viewer = stage.evaluation / "viewer.html"
    count = _write_case_viewer(stage, viewer, options)
    write_report(ReportSources.of(stage), page, card, options)
    run_file = stage.models / "train" / "run.json"
    if run_file.is_file():
        with continue_run(read_run_file(run_file)) as tracker:
            for path in (page, viewer, card):
                tracker.log_artifact(path)
    size_mb = (page.stat().st_size + viewer.stat().st_size) / 1e6
    say(f"report {stage.workspace}: {size_mb:.1f} MB with {count} case(s) to look at → {page}")
    return EXIT_OK


def _write_case_viewer(stage: Stage, viewer: Path, options: ReportOptions) -> int:
    """Write the viewer of the cases that a model has answered, and return how many it shows."""
    has_cases = (stage.volumes / "cases.csv").is_file()
    cases = list_workspace_cases(stage.volumes, stage.evaluation, options.viewer) if has_cases else []
    remark = "the lowest scores first" if len(cases) > 1 else ""
    failures = write_viewer(viewer, options.title or stage.workspace, cases, parent_page="report.html", remark=remark)
    for case, reason in failures.items():
        say(f"report {stage.workspace}: {case} is not in the viewer: {reason}")
    return len(cases) - len(failures)


if __name__ == "__main__":
    sys.exit(main("report", run))
