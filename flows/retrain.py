"""A Prefect flow that runs all stages of a workspace and shows its champion: ``python -m flows.retrain WORKSPACE``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002
from prefect.states import Completed, Failed

from flows.artifacts import publish_decision
from flows.pipeline import pipeline, run_for_exit_code
from flows.recovery import recoverable

if TYPE_CHECKING:
    from collections.abc import Callable


@recoverable
@flow(name="retrain", flow_run_name="retrain {workspace}", persist_result=False)
def retrain(workspace: str, force: bool = False, retries: int = 2, retry_delay_seconds: float = 10.0) -> State[object]:
    """Train with the new data; the new model becomes champion if it is better than the present one.

    Args:
        workspace: a key of params.yaml.
        force: run every stage, changed or not.
        retries: how often a stage that was killed is tried again.
        retry_delay_seconds: how long to wait before.
    """
    state = pipeline(workspace, force, retries, retry_delay_seconds, return_state=True)
    if not state.is_completed():
        return Failed(message=state.message, data=state.result(raise_on_failure=False))
    line = publish_decision(workspace)
    get_run_logger().info(line)
    return Completed(message=line)


def run_watching(flow_that_trains: Callable[..., State[object]], program: str, description: str) -> int:
    """Run a flow that may start a training as a program.

    Args:
        flow_that_trains: takes a workspace, and whether a training may start.
        program: how it is called.
        description: of its help.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
    text = "do not start a training; only report that one is due"
    parser.add_argument("--no-training", action="store_true", help=text)
    arguments = parser.parse_args()
    may_train = not arguments.no_training
    return run_for_exit_code(lambda: flow_that_trains(arguments.workspace, may_train, return_state=True))


def main() -> int:
    """Run the flow as a program; the exit code is that of the first stage that failed (see ``voxflow.errors``)."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain",
        description="Retrain a workspace's model, and decide whether it becomes champion.",
    )
    parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
    parser.add_argument("--force", action="store_true", help="run every stage, even if nothing changed")
    arguments = parser.parse_args()
    return run_for_exit_code(lambda: retrain(arguments.workspace, arguments.force, return_state=True))


if __name__ == "__main__":
    sys.exit(main())
