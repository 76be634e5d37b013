"""Runs TotalSegmentator itself, in a Python that has it: ``python run_totalsegmentator.py JOB.json``.

This file is copied and run by that Python, so that it imports nothing of Voxflow. The job names the task, its mode, the
folders of weights by their names there, the images of each case and the folder for the masks. TotalSegmentator is given
a home of its own, which sends no statistics and has all weights, so that nothing is downloaded; the user's licence is
taken along. ``arrays`` asks for windows that are added up in single precision, since there are no arrays to keep;
``options`` are handed on. ``result.json`` beside the masks says how long a case took, or why it failed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from totalsegmentator.config import get_config


def prepare_home(home: Path, job: dict[str, Any]) -> None:
    """Lay out a home of TotalSegmentator with the weights of the job, and make it the one of this process."""
    config = {"totalseg_id": "totalseg_offline", "prediction_counter": 0} | (get_config() or {})
    config |= {"send_usage_stats": False, "statistics_disclaimer_shown": True}
    (home / "config.json").write_text(json.dumps(config))
    weights = home / "nnunet/results"
    weights.mkdir(parents=True)
    for name, folder in job["weights"].items():
        (weights / name).symlink_to(folder, target_is_directory=True)
    os.environ.pop("TOTALSEG_WEIGHTS_PATH", None)
    os.environ["TOTALSEG_HOME_DIR"] = str(home)


def segment_case(job: dict[str, Any], case: str) -> None:
    """Write the mask of a case."""
    import nibabel
    from totalsegmentator.python_api import totalsegmentator

    mask = totalsegmentator(
        Path(job["cases"][case][0]),
        None,
        ml=True,
        task=job["task"],
        fast=job["mode"] == "fast",
        fastest=job["mode"] == "fastest",
        plans=job["plans"],
        nr_thr_saving=1,
        device="gpu" if torch.cuda.is_available() else "cpu",
        quiet=True,
        **job.get("options", {}),
    )
    nibabel.save(mask, Path(job["out"]) / f"{case}{job['ending']}")


def main() -> None:
    """Segment every case; one that fails does not stop the others."""
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["arrays"]:
        torch.half = torch.float32
    seconds, failures = {}, {}
    with tempfile.TemporaryDirectory() as home:
        prepare_home(Path(home), job)
        for case in job["cases"]:
            start = time.perf_counter()
            try:
                segment_case(job, case)
            except (Exception, SystemExit) as error:  # noqa: BLE001  (its errors share no base; a missing licence exits)
                failures[case] = (str(error).splitlines() or [type(error).__name__])[0]
            seconds[case] = time.perf_counter() - start
    (Path(job["out"]) / "result.json").write_text(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
