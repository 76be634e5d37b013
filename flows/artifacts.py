"""Owns what a flow run leaves on its Prefect page: the report's address and what became of every stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_link_artifact, create_table_artifact

from tasks.repro import Outcome, StageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Result = Outcome | StageError | None


def publish(workspace: str, results: Mapping[str, Result]) -> None:
    """Write the table of stages and, where there is one, the link to the report.

    Args:
        workspace: a key of params.yaml.
        results: what came of each stage; None when it did not begin because one before it failed.
    """
    key = re.sub(r"[^a-z0-9]+", "-", workspace.lower()).strip("-")
    rows = [_row(address, result) for address, result in results.items()]
    create_table_artifact(key=f"stages-{key}", table=rows, description=f"Stages of {workspace}")
    report = (Path("mmars") / workspace / "eval" / "report.html").resolve()
    if report.is_file():
        create_link_artifact(
            key=f"report-{key}",
            link=report.as_uri(),
            link_text=f"Report of {workspace}",
            description=f"`{report}` on the machine that ran the flow; the same page hangs on the MLflow run.",
        )


def _row(address: str, result: Result) -> dict[str, Any]:
    match result:
        case Outcome():
            return {"stage": address, "result": result.verdict, "seconds": round(result.seconds, 1), "reason": ""}
        case StageError():
            return {"stage": address, "result": "failed", "seconds": None, "reason": str(result)}
        case None:
            return {"stage": address, "result": "not run", "seconds": None, "reason": "a stage before it failed"}
