"""Summarise the results of the last ``dvc repro``: scores, quarantined series, and the pages to open next."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tasks.common.stage import Stage
from voxflow.errors import EXIT_OK
from voxflow.places import read_workspaces
from voxflow.progress import say

if TYPE_CHECKING:
    from pathlib import Path


def summarise_workspace(workspace: str, block: dict[str, Any]) -> list[str]:
    """Say what one workspace has reached: its score, where report and masks are, what was quarantined.

    Returns:
        The lines; none when its report is not there yet.
    """
    stage = Stage(workspace, "evaluate", block)
    report = stage.evaluation / "report.html"
    if not report.is_file():
        return []
    scores = json.loads(stage.metrics.read_text(encoding="utf-8"))
    key, title = ("mean_dice", "mean Dice") if stage.task == "segmentation" else ("mean_auc", "mean AUC")
    score = f"{scores[key]:.3f}" if key in scores else "undefined"
    lines = [f"{workspace}: {title} {score} on {scores['cases']} unseen cases", f"  report      {report}"]
    lines += [f"  masks       {stage.evaluation / 'infer'}"] if stage.task == "segmentation" else []
    lines += [f"  quarantined {row}" for row in _list_quarantined(stage.volumes / "conversion.csv")]
    return lines


def _list_quarantined(table: Path) -> list[str]:
    import csv

    with table.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["verdict"] == "quarantined"]
    return [f"series {row['series']}: {row['reason']}" for row in rows]


def main() -> int:
    """Print the summary of every workspace that has a report."""
    for workspace, block in read_workspaces().items():
        for line in summarise_workspace(workspace, block):
            say(line)
    say("compare runs: make serve, then the MLflow page that it names")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
