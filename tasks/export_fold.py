"""Export one fold's model: the stage export on the fold's checkpoint."""

from __future__ import annotations

import sys

from tasks.export import run
from tasks.fold import FOLDS, load_fold
from tasks.stage import program

if __name__ == "__main__":
    sys.exit(program("export_fold", run, lambda key: load_fold(key, "export"), key=FOLDS))
