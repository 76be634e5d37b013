"""Runs a MONAI bundle by MONAI's own workflow, in a Python that has MONAI: ``python run_bundle.py JOB.json``.

This file is copied and run by that Python, so that it imports nothing of Voxflow. The job names the bundle, its
inference configuration, the images of each case and the folder for the masks. ``arrays`` asks for what MONAI had on the
way to a mask, too. ``result.json`` beside the masks says how long each case took, or why it failed.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow


def segment_case(job: dict[str, Any], case: str) -> None:
    """Write the mask of a case and, where the job asks for them, the arrays that it was made of."""
    bundle, out = Path(job["bundle"]), Path(job["out"])
    files, scratch = job["cases"][case], out / "original"
    metadata = bundle / "configs/metadata.json"
    changes = {"bundle_root": str(bundle), "output_dir": str(scratch)}
    workflow = ConfigWorkflow(
        config_file=job["config"],
        meta_file=str(metadata) if metadata.is_file() else None,
        logging_file=False,
        workflow_type="infer",
        **changes,
        **{"dataset#data": [{"image": files if len(files) > 1 else files[0]}]},
    )
    workflow.initialize()
    workflow.run()
    masks = [path for path in scratch.rglob("*") if path.name.endswith(job["ending"])]
    if len(masks) != 1:
        raise ValueError(f"the bundle writes {len(masks)} files of {job['ending']}, and not one mask")
    shutil.move(masks[0], out / f"{case}{job['ending']}")
    shutil.rmtree(scratch)
    if job["arrays"]:
        evaluator = workflow.parser.get_parsed_content("evaluator")
        image = evaluator.data_loader.dataset[0]["image"]
        with torch.inference_mode():
            logits = evaluator.inferer(image[None].to(evaluator.state.device), evaluator.network)[0]
        np.save(out / f"{case}.image.npy", np.asarray(image, dtype=np.float32))
        np.save(out / f"{case}.logits.npy", np.asarray(logits.cpu(), dtype=np.float32))
    workflow.finalize()


def main() -> None:
    """Segment every case; one that fails does not stop the others."""
    job = json.loads(Path(sys.argv[1]).read_text())
    seconds, failures = {}, {}
    for case in job["cases"]:
        start = time.perf_counter()
        try:
            segment_case(job, case)
        except Exception as error:  # noqa: BLE001  (a bundle raises whatever its code leads it to)
            failures[case] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        seconds[case] = time.perf_counter() - start
    (Path(job["out"]) / "result.json").write_text(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
