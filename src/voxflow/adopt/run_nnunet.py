"""Runs nnU-Net itself, in a Python that has nnunetv2: ``python run_nnunet.py JOB.json``.

This file is copied and run by that Python, so that it imports nothing of Voxflow. The job names the result folder, its
folds and checkpoint, the images of each case and the folder for the masks. ``arrays`` asks for what nnU-Net had on the
way to a mask, too, with windows added up in single precision: in half precision, as nnU-Net adds them, logits of voxels
that windows weigh little are rounded by a tenth and more. ``result.json`` beside the masks says how long a case took,
or why it failed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def open_predictor(job: dict[str, Any]) -> Any:
    """nnU-Net's predictor, as ``nnUNetv2_predict`` has it by default."""
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_gpu else "cpu")
    predictor = nnUNetPredictor(device=device, perform_everything_on_device=is_gpu, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(job["folder"], tuple(job["folds"]), job["checkpoint"])
    return predictor


def segment_case(predictor: Any, job: dict[str, Any], case: str) -> None:
    """Write the mask of a case and, where the job asks for them, the arrays that it was made of."""
    reader = predictor.plans_manager.image_reader_writer_class()
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    plans = predictor.plans_manager, predictor.configuration_manager
    out = Path(job["out"])
    image, properties = reader.read_images(job["cases"][case])
    data, _, properties = preprocessor.run_case_npy(image, None, properties, *plans, predictor.dataset_json)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
    if job["arrays"]:
        np.save(out / f"{case}.image.npy", data)
        np.save(out / f"{case}.logits.npy", logits.float().numpy())
        box = [[int(bound) for bound in part] for part in properties["bbox_used_for_cropping"]]
        (out / f"{case}.box.json").write_text(json.dumps(box))
    mask = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, *plans, predictor.label_manager, properties
    )
    reader.write_seg(mask, str(out / f"{case}{job['ending']}"), properties)


def main() -> None:
    """Segment every case; one that fails does not stop the others."""
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["arrays"]:
        torch.half = torch.float32
    predictor = open_predictor(job)
    seconds, failures = {}, {}
    for case in job["cases"]:
        start = time.perf_counter()
        try:
            segment_case(predictor, job, case)
        except Exception as error:  # noqa: BLE001  (nnU-Net's and its readers' errors share no base but this)
            failures[case] = (str(error).splitlines() or [type(error).__name__])[0]
        seconds[case] = time.perf_counter() - start
    (Path(job["out"]) / "result.json").write_text(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
