"""A training as a program of its own, for tests that start several of it or kill it.

python -m tests.training.program CUBES CONFIG OUT OPTIONS: folder of cubes, configuration, folder to write, JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.training.conftest import PLACES
from voxflow.config import load_workflow
from voxflow.datalist import Case, Datalist
from voxflow.errors import EXIT_FAILURE, VoxflowError
from voxflow.tracking import NullTracker
from voxflow.training import DataFacts, TrainOptions, train


def cubes_in(folder: Path) -> Datalist:
    """Four cubes to learn from, the others to validate on."""
    names = sorted(path.name.removesuffix("_label.nii.gz") for path in folder.glob("*_label.nii.gz"))
    cases = tuple(Case(name, (folder / f"{name}.nii.gz",), folder / f"{name}_label.nii.gz", name) for name in names)
    return Datalist(folder / "d.json", folder, {"training": cases[:4], "validation": cases[4:]})


def main() -> int:
    folder, config, out = map(Path, sys.argv[1:4])
    options = TrainOptions.model_validate(json.loads(sys.argv[4]))
    facts = DataFacts(class_names=("background", "cube"), spacing_mm=(1, 1, 2), orientation="LPS", modality="CT")
    workflow = load_workflow(config, overrides=PLACES)
    try:
        result = train(workflow, cubes_in(folder), options, out, facts=facts, tracker=NullTracker("run7"))
    except (VoxflowError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code if isinstance(error, VoxflowError) else EXIT_FAILURE
    sys.stderr.write(f"{result.ending} after {result.steps} steps, continued at {result.continued_at}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
