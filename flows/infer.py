"""A Prefect flow that makes masks for the fetched studies and sends their DICOM SEG to the PACS."""

from __future__ import annotations

from prefect import flow

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002

from flows.errands import make_final_state, make_skipped_state, run_errand
from flows.recovery import recoverable
from voxflow.locks import try_lock

EXPORT, CHAMPION = "export", "champion"


@recoverable
@flow(name="infer", flow_run_name="infer {workspace}", persist_result=False)
def infer(
    workspace: str,
    model: str = EXPORT,
    send: bool = True,
    retries: int = 3,
    retry_delay_seconds: float = 20.0,
) -> State[object]:
    """Make masks for every study in the inbox that has none yet, and send them back.

    Args:
        workspace: a key of params.yaml, whose blocks ``ingest`` and ``answer`` name inbox and PACS.
        model: "export" (what the workspace exported last), "champion" (the registered model with that alias), or the
            path of a model file or of a folder of them.
        send: masks go to the PACS; otherwise they stay here.
        retries: how often a PACS that is away is asked again.
        retry_delay_seconds: how long to wait before.
    """
    errand = run_errand.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    arguments = [workspace, *([] if send else ["--keep"])]
    with try_lock(f"{workspace}.infer") as ours:
        if not ours:
            return make_skipped_state(workspace)
        if model == CHAMPION:
            folder = f".voxflow/champion/{workspace}"
            fetched = errand(f"champion {workspace}", "tasks.ops.champion", [workspace, folder], return_state=True)
            if not fetched.is_completed():
                return make_final_state(fetched)
            model = folder
        if model != EXPORT:
            arguments += ["--model", model]
        return make_final_state(errand(f"answer {workspace}", "tasks.ops.answer", arguments, return_state=True))
