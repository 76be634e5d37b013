"""Runs one program as a Prefect task: its lines go to the log, and it is tried again where that can help."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - Prefect reads the annotations of tasks
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

# Prefect reads the annotations of tasks and hooks while it runs.
from prefect.client.schemas.objects import State, TaskRun  # noqa: TC002
from prefect.states import Completed, Failed
from prefect.tasks import Task  # noqa: TC002

from tasks.ops.child import run_program
from tasks.ops.repro import StageError
from voxflow.errors import EXIT_FAILURE


def is_worth_another_errand(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """A lost connection or a killed program is worth another try; a wrong setting stays wrong."""
    error = state.data
    return isinstance(error, StageError) and (error.killed or error.exit_code == EXIT_FAILURE)


@task(task_run_name="{name}", cache_policy=NO_CACHE, retry_condition_fn=is_worth_another_errand, persist_result=False)
def run_errand(name: str, module: str, arguments: Sequence[str]) -> State[object]:
    """Run one program of tasks/ops; its lines go to the task's log.

    A failure is returned, not raised: a traceback would say nothing more.

    Args:
        name: of the task, on Prefect's page.
        module: such as ``tasks.ops.ingest``.
        arguments: its command line.
    """
    logger = get_run_logger()
    try:
        return Completed(message=run_program(module, arguments, logger.info))
    except StageError as error:
        logger.error(str(error))
        return Failed(message=str(error), data=error)


def make_final_state(state: State[Any]) -> State[object]:
    """The flow's state, which is its last errand's."""
    if state.is_completed():
        return Completed(message=state.message)
    return Failed(message=state.message, data=state.result(raise_on_failure=False))


def make_skipped_state(workspace: str) -> State[object]:
    """The state of a run that found another one at work, which does what this one would have done."""
    return Completed(name="Skipped", message=f"another run is at work for {workspace}")
