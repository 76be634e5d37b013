"""Train one fold of a workspace: the stage train on the fold's datalist."""

from __future__ import annotations

import sys

from tasks.fold import FOLDS, load_fold
from tasks.stage import program
from tasks.train import run

if __name__ == "__main__":
    sys.exit(program("train_fold", run, lambda key: load_fold(key, "train"), key=FOLDS))
