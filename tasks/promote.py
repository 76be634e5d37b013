"""Register the exported model as challenger; it becomes champion if it beats the present one case by case."""

from __future__ import annotations

import os
import sys

from tasks.common.stage import Stage, main
from voxflow.errors import EXIT_OK, VoxflowError
from voxflow.files import write_json
from voxflow.places import Places
from voxflow.progress import say
from voxflow.promotion import Candidate, Decision, PromoteOptions, judge_candidate, read_candidate

EXPERIMENT = "DVC_EXP_NAME"


def run(stage: Stage) -> int:
    """Decide whether the model becomes champion, and write the decision to mmars/WS/eval/decision.json.

    A store of models that can't be reached leaves the decision open: that is no reason to have no report.
    """
    options = stage.options(PromoteOptions)
    decision = _decide(read_candidate(Places(stage.workspace, stage.block)), options)
    write_json(stage.evaluation / "decision.json", decision.as_json())
    say(f"promote {stage.workspace}: {decision.line()}")
    return EXIT_OK


def _decide(candidate: Candidate, options: PromoteOptions) -> Decision:
    experiment = os.environ.get(EXPERIMENT)
    if experiment:
        reason = f"{experiment} is an experiment of DVC; `dvc exp apply` and `voxflow promote` put it forward"
        return Decision("undecided", (reason,))
    try:
        return judge_candidate(candidate, options, moves_alias=options.automatic)
    except VoxflowError as error:
        # A store that is away is no reason to have no report.
        return Decision("undecided", (f"{error}; `voxflow promote {candidate.workspace}` decides when it is back",))


if __name__ == "__main__":
    sys.exit(main("promote", run))
