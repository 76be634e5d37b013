"""Bring every case of a workspace to one spacing and orientation, or radiographs to one size."""

from __future__ import annotations

import shutil
import sys

from tasks.stage import Stage, main
from tasks.tables import read_cases
from voxflow.errors import EXIT_OK
from voxflow.files import atomic_directory, write_json
from voxflow.progress import say
from voxflow.volumes import ResampleOptions, resample_cases


def run(stage: Stage) -> int:
    """Write data/resampled/WS; see ``voxflow.volumes.resample_cases``."""
    options = stage.options(ResampleOptions)
    table = read_cases(stage.volumes / "cases.csv")
    with atomic_directory(stage.resampled) as folder:
        resampled = resample_cases(table, stage.volumes, folder, options)
        resampled.to_csv(folder / "cases.csv", index=False)
        shutil.copyfile(stage.volumes / "labels.json", folder / "labels.json")
        write_json(folder / "resample.json", options.model_dump(mode="json"))
    write_json(stage.metrics, {"cases": len(table)})
    say(f"resample {stage.workspace}: {len(table)} cases → {stage.resampled}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main("resample", run))
