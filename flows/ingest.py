"""A Prefect flow that fetches new studies from a PACS or a folder into a workspace's inbox."""

from __future__ import annotations

from prefect import flow

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002

from flows.errands import make_final_state, make_skipped_state, run_errand
from flows.recovery import recoverable
from voxflow.locks import try_lock


@recoverable
@flow(name="ingest", flow_run_name="ingest {workspace}", persist_result=False)
def ingest(workspace: str, retries: int = 3, retry_delay_seconds: float = 20.0) -> State[object]:
    """Fetch new studies; after an interruption, only the missing ones are fetched.

    Args:
        workspace: a key of params.yaml, whose block ``ingest`` says from where and what.
        retries: how often a PACS that is away is asked again.
        retry_delay_seconds: how long to wait before.
    """
    errand = run_errand.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    with try_lock(f"{workspace}.ingest") as ours:
        if not ours:
            return make_skipped_state(workspace)
        return make_final_state(errand(f"ingest {workspace}", "tasks.ops.ingest", [workspace], return_state=True))
