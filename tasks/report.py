"""Write the report of a workspace, one HTML page, and a model card from the results of the other stages."""

from __future__ import annotations

import sys

from tasks.common.stage import Stage, main
from voxflow.errors import EXIT_OK
from voxflow.progress import say
from voxflow.reporting import ReportOptions, ReportSources, write_report
from voxflow.tracking import continue_run, read_run_file


def run(stage: Stage) -> int:
    """Write report.html and model_card.md, and keep both with the MLflow run of the training.

    What a stage has not left yet is told on the page; it is no error.
    """
    options = stage.options(ReportOptions)
    page, card = stage.evaluation / "report.html", stage.evaluation / "model_card.md"
    write_report(ReportSources.of(stage), page, card, options)
    run_file = stage.models / "train" / "run.json"
    if run_file.is_file():
        with continue_run(read_run_file(run_file)) as tracker:
            tracker.log_artifact(page)
            tracker.log_artifact(card)
    say(f"report {stage.workspace}: {page.stat().st_size / 1e6:.1f} MB, opens in any browser → {page}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main("report", run))
