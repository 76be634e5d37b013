"""A Prefect flow that takes in corrected masks, and starts a training when there are enough of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prefect import flow

# Prefect reads the annotations of flows while it runs.
from prefect.client.schemas.objects import State  # noqa: TC002
from prefect.states import Completed

from flows.artifacts import write_index
from flows.errands import make_final_state, make_skipped_state, run_errand
from flows.recovery import recoverable
from flows.retrain import retrain, run_watching
from voxflow.locks import try_lock


@recoverable
@flow(name="corrections", flow_run_name="corrections {workspace}", persist_result=False)
def corrections(
    workspace: str, start_training: bool = True, retries: int = 3, retry_delay_seconds: float = 20.0
) -> State[object]:
    """Take in the masks that people corrected; start a training when enough corrected labels are new.

    Args:
        workspace: a key of params.yaml, whose block ``corrections`` says where from, and how many start a training.
        start_training: let a training start when one is due; otherwise only say so.
        retries: how often a PACS that is away is asked again.
        retry_delay_seconds: how long to wait before.
    """
    errand = run_errand.with_options(retries=retries, retry_delay_seconds=retry_delay_seconds)
    with try_lock(f"{workspace}.corrections") as ours:
        if not ours:
            return make_skipped_state(workspace)
        state = errand(f"corrections {workspace}", "tasks.ops.corrections", [workspace], return_state=True)
        if not state.is_completed():
            return make_final_state(state)
        summary = json.loads(Path(f"data/corrections/{workspace}/state.json").read_text(encoding="utf-8"))
        write_index()
        if not (summary["retrain"] and start_training):
            return Completed(message=summary["line"])
        training = retrain(workspace, return_state=True)
        if not training.is_completed():
            return make_final_state(training)
        arguments = [workspace, "--trained", *summary["due"]]
        noted = errand(f"note {workspace}", "tasks.ops.corrections", arguments, return_state=True)
        if not noted.is_completed():
            return make_final_state(noted)
        return Completed(message=f"retrained with {len(summary['due'])} corrected labels: {training.message}")


def main() -> int:
    """Run the flow as a program."""
    return run_watching(corrections, "python -m flows.corrections", __doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
