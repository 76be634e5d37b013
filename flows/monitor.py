"""A Prefect flow that looks for drift in a workspace's inbox, and starts a training when one is due."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002
from prefect.states import Completed, Failed

from flows.artifacts import make_artifact_key, write_index
from flows.recovery import recoverable
from flows.retrain import retrain, run_watching
from tasks.ops.digests import check_digests
from tasks.ops.graph import read_graph
from tasks.ops.repro import Reproducer
from voxflow.errors import EXIT_ALERT, EXIT_OK
from voxflow.locks import hold_workspace


@task(task_run_name="convert {workspace}", cache_policy=NO_CACHE, persist_result=False)
def convert(workspace: str) -> None:
    """Bring the converted volumes up to date, in which new labels are counted; DVC does nothing where nothing came."""
    check_digests()
    address = f"convert@{workspace}"
    if address in {node.address for node in read_graph(workspace)}:
        with Reproducer() as reproducer:
            reproducer.run(address, force=False, say=get_run_logger().info)


@task(task_run_name="monitor {workspace}", cache_policy=NO_CACHE, persist_result=False)
def look(workspace: str) -> dict[str, Any]:
    """Run ``python -m tasks.ops.monitor``; its lines go to the log.

    Returns:
        What it wrote to monitor.json.

    Raises:
        RuntimeError: it ended otherwise than well or with an alert.
    """
    logger = get_run_logger()
    command = [sys.executable, "-m", "tasks.ops.monitor", workspace]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in result.stderr.splitlines():
        logger.info(line)
    if result.returncode not in (EXIT_OK, EXIT_ALERT):
        raise RuntimeError(result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "monitor failed")
    summary: dict[str, Any] = json.loads(_folder(workspace).joinpath("monitor.json").read_text(encoding="utf-8"))
    return summary


@recoverable
@flow(name="monitor", flow_run_name="monitor {workspace}", persist_result=False)
def monitor(workspace: str, start_training: bool = True) -> State[object]:
    """Compare the inbox with the training data; start a training if drift or new labels require it.

    Args:
        workspace: a key of params.yaml, whose block ``monitor`` names the inbox and the bounds.
        start_training: let a training start when one is due; otherwise only say so.
    """
    with hold_workspace(workspace, "monitor", get_run_logger().info):
        convert(workspace)
        summary = look(workspace)
    _publish(workspace, summary)
    write_index()
    if summary["retrain"] and start_training:
        state = retrain(workspace, return_state=True)
        if not state.is_completed():
            return Failed(message=state.message, data=state.result(raise_on_failure=False))
        return Completed(message=f"{summary['line']}; retrained: {'; '.join(summary['retrain'])}")
    return Completed(message=str(summary["line"]), name="Drift" if summary["alert"] else "Completed")


def _publish(workspace: str, summary: dict[str, Any]) -> None:
    key = make_artifact_key(workspace)
    title = f"# {'Alert: drift' if summary['alert'] else 'No alert'}"
    due = [f"- a training is due: {reason}" for reason in summary["retrain"]]
    lines = [title, summary["line"], "", f"- {summary['new_labelled']} labelled cases that no training has seen", *due]
    create_markdown_artifact(key=f"monitor-{key}", markdown="\n".join(lines), description=summary["line"])
    page = (_folder(workspace) / "drift.html").resolve()
    if page.is_file():
        create_link_artifact(key=f"drift-{key}", link=page.as_uri(), link_text=f"Drift of {workspace}")


def _folder(workspace: str) -> Path:
    return Path("data/drift") / workspace


def main() -> int:
    """Run the flow as a program."""
    return run_watching(monitor, "python -m flows.monitor", __doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
