"""Shows on a flow run's Prefect page its scores, a picture and links, and stores the links back to that page."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, runtime
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.utilities.urls import url_for

from tasks.ops.links import FLOW_RUN, FLOW_RUN_PAGE, find_links, remember
from tasks.ops.repro import Outcome, StageError
from tasks.ops.results import describe_results, encode_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

Result = Outcome | StageError | None


def publish(workspace: str, results: Mapping[str, Result], variables: Mapping[str, str]) -> None:
    """Write the table of stages, the scores with a picture and the links, and bring the index up to date.

    Args:
        workspace: a key of params.yaml.
        results: what came of each stage; None when it did not begin because one before it failed.
        variables: what the flow told its stages, see :func:`make_flow_run_variables`.
    """
    key = make_artifact_key(workspace)
    rows = [_make_row(address, result) for address, result in results.items()]
    create_table_artifact(key=f"stages-{key}", table=rows, description=f"Stages of {workspace}")
    links = find_links(workspace, get_run_logger().info)
    summary, picture = describe_results(workspace, links), encode_picture(workspace)
    if summary:
        create_markdown_artifact(key=f"report-{key}", markdown=summary, description=f"Results of {workspace}")
    if picture:
        create_image_artifact(key=f"picture-{key}", image_url=picture, description=f"An unseen case of {workspace}")
    remember(workspace, links, variables)
    write_index()


def make_flow_run_variables() -> dict[str, str]:
    """What tells stages for which flow run they work: its id and, where a server shows it, its page."""
    flow_run = str(runtime.flow_run.id)
    page = url_for("flow-run", obj_id=flow_run)
    return {FLOW_RUN: flow_run, **({FLOW_RUN_PAGE: page} if page else {})}


def publish_decision(workspace: str) -> str:
    """Write the decision on the champion with its numbers, and return it as one line."""
    path = Path("mmars") / workspace / "eval" / "decision.json"
    try:
        decision = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return f"{workspace}: no decision on the champion, since {path} is not there"
    numbers = decision.pop("numbers", None) or {}
    rows = [{"what": name, "value": _format_value(value)} for name, value in {**decision, **numbers}.items()]
    line = f"{workspace}: {decision.get('verdict')}: {_format_value(decision.get('reasons'))}"
    create_table_artifact(key=f"decision-{make_artifact_key(workspace)}", table=rows, description=line)
    return line


def write_index() -> None:
    """Bring the page that leads to all others up to date; a run does not fail for it."""
    command = [sys.executable, "-m", "voxflow.cli.main", "index"]
    subprocess.run(command, check=False, capture_output=True)


def make_artifact_key(workspace: str) -> str:
    """Write the workspace's name with what Prefect takes in keys: small letters, digits and dashes.

    A name with other letters, or with dashes, ends in a digest of itself, so that no two workspaces share a key.

    Example:
        >>> make_artifact_key("spleen_demo")
        'spleen-demo'
        >>> make_artifact_key("Spleen_demo")
        'spleen-demo-9bf479'
    """
    key = workspace.replace("_", "-")
    if re.fullmatch(r"[a-z0-9_]+", workspace):
        return key
    digest = hashlib.sha256(workspace.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^a-z0-9-]', '-', key.lower())}-{digest}"


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _make_row(address: str, result: Result) -> dict[str, Any]:
    match result:
        case Outcome():
            return {"stage": address, "result": result.verdict, "seconds": round(result.seconds, 1), "reason": ""}
        case StageError():
            return {"stage": address, "result": "failed", "seconds": None, "reason": str(result)}
        case None:
            return {"stage": address, "result": "not run", "seconds": None, "reason": "a stage before it failed"}
