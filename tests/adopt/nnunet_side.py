"""nnU-Net's own side of a comparison: writes result folders as its trainer does, and predicts with them.

It runs with the python that has nnunetv2: ``python nnunet_side.py JOB.json``, and needs nothing of Voxflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def write_fold(folder: Path, job: dict[str, Any], fold: int) -> None:
    """Write a checkpoint of random weights that tell classes apart."""
    plans = PlansManager(json.loads((folder / "plans.json").read_text()))
    dataset = json.loads((folder / "dataset.json").read_text())
    configuration = plans.get_configuration(job["configuration"])
    labels = plans.get_label_manager(dataset)
    torch.manual_seed(11 + fold)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        determine_num_input_channels(plans, configuration, dataset),
        labels.num_segmentation_heads,
        deep_supervision=True,
    )
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "seg_layers" in name and name.endswith("weight"):
                value.mul_(job.get("contrast", 8.0))
            elif "norm" in name:
                value.add_(0.2 * torch.randn_like(value))
    target = folder / f"fold_{fold}"
    target.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": {},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.6)], "epoch_start_timestamps": [1.0, 2]},
        "_best_ema": np.float64(0.6),
        "current_epoch": 3,
        "init_args": {
            "plans": plans.plans,
            "configuration": job["configuration"],
            "fold": fold,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(job["mirroring"]) if job["mirroring"] else None,
    }
    torch.save(checkpoint, target / "checkpoint_final.pth")


def run_job(job: dict[str, Any]) -> None:
    """Write the folds and predict every image of the job."""
    folder, out = Path(job["folder"]), Path(job["out"])
    for fold in job["folds"]:
        write_fold(folder, job, fold)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), tuple(job["folds"]))
    out.mkdir(parents=True, exist_ok=True)
    dataset_reader = predictor.plans_manager.image_reader_writer_class()
    torch.half = torch.float32
    for name, files in job["images"].items():
        image, properties = dataset_reader.read_images(files)
        mask, probabilities = predictor.predict_single_npy_array(image, properties, None, None, True)
        dataset_reader.write_seg(mask, str(out / f"{name}.nii.gz"), properties)
        np.save(out / f"{name}.npy", probabilities)
    torch.half = torch.float16


def main() -> None:
    """Run every job, with sums in single precision.

    In half precision, as nnU-Net has them, the sums of one window more or less change voxels that are nearly as likely
    to be of one class as of another, which networks of random weights have many of.
    """
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run_job(job)


if __name__ == "__main__":
    main()
