"""A Prefect flow that pushes the data that DVC versions to its remote, and copies the databases."""

from __future__ import annotations

from prefect import flow

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002

from flows.errands import make_final_state, run_errand
from flows.recovery import recoverable


@recoverable
@flow(name="backup", persist_result=False)
def backup(
    remote: str | None = None,
    databases: str | None = None,
    retries: int = 3,
    retry_delay_seconds: float = 60.0,
) -> State[object]:
    """Push to a DVC remote; what is there already is not sent again.

    Args:
        remote: its name in .dvc/config; empty: the default one.
        databases: a folder that copies of the SQLite files go to; empty: none are made.
        retries: how often a remote that is away is asked again.
        retry_delay_seconds: how long to wait before.
    """
    arguments = [*(["--remote", remote] if remote else []), *(["--databases", databases] if databases else [])]
    errand = run_errand.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    return make_final_state(errand("backup", "tasks.ops.backup", arguments, return_state=True))
