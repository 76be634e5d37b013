"""A Prefect flow that runs the stages of one workspace: ``python -m flows.pipeline WORKSPACE``.

The stages and their order come from DVC; each is one task that calls ``dvc repro --single-item STAGE``. So what runs
and what is cached stays DVC's business, and when, where, retries and logs are Prefect's.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

# Prefect reads the annotations of flows, tasks and hooks while it runs.
from prefect.client.schemas.objects import State, TaskRun  # noqa: TC002
from prefect.deployments import run_deployment
from prefect.futures import PrefectFuture  # noqa: TC002
from prefect.states import Completed, Failed
from prefect.tasks import Task  # noqa: TC002

from flows.artifacts import make_flow_run_variables, publish
from flows.errands import make_final_state, run_errand
from flows.recovery import recoverable
from tasks.common.stage import check_channel_order, is_in_root
from tasks.ops.digests import check_digests
from tasks.ops.graph import Node, read_graph
from tasks.ops.repro import Outcome, Reproducer, StageError
from voxflow.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_WRONG_INPUT, VoxflowError
from voxflow.locks import hold_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A stage that was killed is tried as often as the flow allows; one that failed by itself, once more.
RUNS_AFTER_FAILURE = 2


def is_worth_another_try(_task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
    """Wrong input stays wrong; a killed stage deserves every retry; another failure deserves one."""
    error = state.data
    if not isinstance(error, StageError):
        return False
    return error.killed or (error.exit_code == EXIT_FAILURE and run.run_count < RUNS_AFTER_FAILURE)


@task(task_run_name="{address}", cache_policy=NO_CACHE, retry_condition_fn=is_worth_another_try, persist_result=False)
def run_stage(address: str, force: bool, reproducer: Reproducer) -> Outcome | State[StageError]:
    """Run one stage; its lines go to the task's log.

    A failure is returned, not raised: a traceback would say nothing more.

    Args:
        address: the stage as DVC calls it, such as ``train@spleen_demo``.
        force: run it even when nothing changed.
        reproducer: runs it through DVC.
    """
    logger = get_run_logger()
    try:
        outcome = reproducer.run(address, force=force, say=logger.info)
    except StageError as error:
        logger.error(str(error))
        return Failed(message=str(error), data=error)
    logger.info("%s: %s, %.1f s", address, outcome.verdict, outcome.seconds)
    return outcome


@recoverable
@flow(name="pipeline", flow_run_name="pipeline {workspace}", persist_result=False)
def pipeline(
    workspace: str,
    force: bool = False,
    retries: int = 2,
    retry_delay_seconds: float = 10.0,
    *,
    stages: list[str] | None = None,
    carry: bool = False,
    then: str | None = None,
) -> State[object]:
    """Run every stage of a workspace whose inputs changed; independent stages run at the same time.

    Args:
        workspace: a key of params.yaml.
        force: run every stage, changed or not.
        retries: how often a stage that was killed is tried again.
        retry_delay_seconds: how long to wait before.
        stages: those that run on this machine; empty: all.
        carry: take what other machines made from DVC's remote first, and push what was made here at the end.
        then: a deployment that is started once all went well, such as ``pipeline/train-spleen``.
    """
    logger, stage_names = get_run_logger(), stages or []
    errand = run_errand.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    carrying = [workspace, "--stages", ",".join(stage_names)]
    variables = make_flow_run_variables()
    try:
        check_digests()
        nodes = read_graph(workspace, stage_names)
        if not force:
            check_channel_order(workspace)
        with hold_workspace(workspace, "pipeline", logger.info), Reproducer(variables=variables) as reproducer:
            if carry:
                brought = errand(f"pull for {workspace}", "tasks.ops.carry", ["pull", *carrying], return_state=True)
                if not brought.is_completed():
                    return make_final_state(brought)
                check_digests()
                nodes = read_graph(workspace, stage_names)  # the branch may have brought another one
            results = _run_stages(nodes, force, reproducer, retries, retry_delay_seconds)
            publish(workspace, results, variables)
            state = _make_final_state(workspace, results)
            if carry and state.is_completed():
                handed = errand(f"push of {workspace}", "tasks.ops.carry", ["push", *carrying], return_state=True)
                if not handed.is_completed():
                    return make_final_state(handed)
    except VoxflowError as error:
        return Failed(message=str(error), data=error)
    if then and state.is_completed():
        run_deployment(then, timeout=0)
    return state


def _run_stages(
    nodes: Sequence[Node], force: bool, reproducer: Reproducer, retries: int, retry_delay_seconds: float
) -> dict[str, Outcome | StageError | None]:
    """Run each stage as a task, after those that it needs; returns what became of each."""
    stage = run_stage.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    futures: dict[str, PrefectFuture[Outcome | State[StageError]]] = {}
    for node in nodes:
        before = [futures[address] for address in node.upstream]
        futures[node.address] = stage.submit(node.address, force, reproducer, wait_for=before, return_state=False)
    for future in futures.values():
        future.wait()
    return {address: _read_result(future.state) for address, future in futures.items()}


def _read_result(state: State[Outcome | State[StageError]]) -> Outcome | StageError | None:
    """What the task returned; None when it never ran."""
    if not state.is_final():
        return None
    value = state.result(raise_on_failure=False)
    return value if isinstance(value, Outcome | StageError) else StageError(str(value), code=EXIT_FAILURE)


def _make_final_state(workspace: str, results: dict[str, Outcome | StageError | None]) -> State[object]:
    errors = [result for result in results.values() if isinstance(result, StageError)]
    if errors:
        return Failed(message="; ".join(str(error) for error in errors), data=errors[0])
    ran = sum(isinstance(result, Outcome) and result.verdict == "ran" for result in results.values())
    return Completed(message=f"{workspace}: {ran} stages ran, {len(results) - ran} had not changed")


def main() -> int:
    """Run the flow as a program; the exit code is that of the first stage that failed (see ``voxflow.errors``)."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline", description="Run the stages of a workspace whose inputs changed."
    )
    parser.add_argument("workspace", help="a key below 'workspaces' in params.yaml")
    parser.add_argument("--force", action="store_true", help="run every stage, even if nothing changed")
    parser.add_argument(
        "--retries", type=int, default=2, help="number of retries of a stage that was killed (default: 2)"
    )
    parser.add_argument(
        "--retry-delay", type=float, default=10.0, metavar="SECONDS", help="wait before each retry (default: 10)"
    )
    parser.add_argument("--stages", metavar="NAME,NAME", help="run only these stages (default: all)")
    parser.add_argument(
        "--carry", action="store_true", help="pull the results of other machines first, and push at the end"
    )
    parser.add_argument("--then", metavar="DEPLOYMENT", help="start this deployment after a success")
    arguments = parser.parse_args()
    return run_for_exit_code(
        lambda: pipeline(
            arguments.workspace,
            arguments.force,
            arguments.retries,
            arguments.retry_delay,
            stages=arguments.stages.split(",") if arguments.stages else None,
            carry=arguments.carry,
            then=arguments.then,
            return_state=True,
        )
    )


def run_for_exit_code(run: Callable[[], State[Any]]) -> int:
    """Run a flow as a program, and return what the program ends with (see ``voxflow.errors``).

    Args:
        run: runs the flow and returns its state.
    """
    if not is_in_root("flow"):  # before a server is started or asked
        return EXIT_WRONG_INPUT
    try:
        state = run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if state.is_completed():
        return EXIT_OK
    error = state.result(raise_on_failure=False)
    return error.exit_code if isinstance(error, VoxflowError) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
