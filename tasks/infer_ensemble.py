"""Run the folds' models together on the datalist's cases without a label."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.fold import ENSEMBLES, load_ensemble
from tasks.infer import infer, unlabelled_cases
from tasks.stage import program
from voxflow.inference import InferOptions, open_ensemble
from voxflow.tracking import continue_run, read_run_file

if TYPE_CHECKING:
    from tasks.fold import EnsembleStage


def run(stage: EnsembleStage) -> int:
    """Infer and record; a bad case is reported and the others go on."""
    options = stage.options(InferOptions)
    cases = unlabelled_cases(stage, options)
    engine = open_ensemble(stage.engine_folders, options.engine)
    with continue_run(read_run_file(stage.evaluation / "run.json")) as tracker:
        return infer(stage, engine, cases, options, models=stage.engine_folders, tracker=tracker)


if __name__ == "__main__":
    sys.exit(program("infer_ensemble", run, lambda key: load_ensemble(key, "infer"), key=ENSEMBLES))
