"""Run the folds' models together on the datalist's cases without a label."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.fold import ENSEMBLES, load_ensemble
from tasks.infer import infer, unlabelled_cases
from tasks.stage import program
from voxflow.inference import InferOptions, Models

if TYPE_CHECKING:
    from tasks.fold import EnsembleStage


def run(stage: EnsembleStage) -> int:
    """Infer and record; a bad case is reported and the others go on."""
    options = stage.options(InferOptions)
    cases = unlabelled_cases(stage, options)
    models = Models(tuple(stage.engine_folders), options.engine, together=True)
    return infer(stage, models, cases, options, run_file=stage.evaluation / "run.json")


if __name__ == "__main__":
    sys.exit(program("infer_ensemble", run, lambda key: load_ensemble(key, "infer"), key=ENSEMBLES))
