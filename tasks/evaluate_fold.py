"""Evaluate one fold's exported model on the cases that this fold held out of its training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks import bundle_infer
from tasks.bundle import is_bundle
from tasks.evaluate import evaluate, labelled_cases
from tasks.fold import FOLDS, load_fold
from tasks.stage import program
from voxflow.engines import open_engine
from voxflow.inference import EvaluateOptions
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from tasks.fold import FoldStage

HELD_OUT = "validation"


def run(stage: FoldStage) -> int:
    """Evaluate and record; a bad case is reported and the others go on."""
    if is_bundle(stage):
        return bundle_infer.evaluate(stage, HELD_OUT, "held_out")
    options = stage.options(EvaluateOptions)
    cases = labelled_cases(stage, HELD_OUT)
    engine = open_engine(stage.models / "export", options.engine)
    with continue_run(read_run_file(stage.models / "train" / "run.json")) as tracker:
        return evaluate(stage, engine, cases, options, tracker=tracker, part="held_out")


if __name__ == "__main__":
    sys.exit(program("evaluate_fold", run, lambda key: load_fold(key, "evaluate"), key=FOLDS))
