"""nnU-Net's own side of a comparison: trains some steps, writes its checkpoints, and predicts with them.

It runs with the python that has nnunetv2: ``python nnunet_side.py JOBS.json``, and needs nothing of Voxflow. The
variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results name folders.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

STEPS = 3
CONTRAST = 8.0


def write_fold(folder: Path, job: dict[str, Any], fold: int) -> None:
    """Train some steps on noise with nnU-Net's trainer, and let it write its checkpoint."""
    plans = json.loads((folder / "plans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    data = Path(nnUNet_preprocessed or "") / plans["dataset_name"] / "nnUNetPlans_3d"
    data.mkdir(parents=True, exist_ok=True)
    (data / "case.b2nd").touch()  # by which the trainer tells how data are stored
    torch.manual_seed(11 + fold)
    trainer = nnUNetTrainer(plans, job["configuration"], fold, dataset, device=torch.device("cpu"))
    trainer.initialize()
    channels, patch = trainer.num_input_channels, trainer.configuration_manager.patch_size
    image = torch.randn(2, channels, *patch)
    with torch.no_grad():
        shapes = [part.shape[2:] for part in trainer.network(image)]
    labels = trainer.label_manager
    planes = labels.num_segmentation_heads + int(labels.has_ignore_label) if labels.has_regions else 1
    most = 2 if labels.has_regions else labels.num_segmentation_heads
    for _ in range(STEPS):
        target = [torch.randint(0, most, (2, planes, *shape)).float() for shape in shapes]
        loss = trainer.train_step({"data": image, "target": target})["loss"]
        trainer.logger.log("train_losses", loss, trainer.current_epoch)
        trainer.logger.log("mean_fg_dice", np.float64(0.5), trainer.current_epoch)
    with torch.no_grad():
        for name, value in trainer.network.named_parameters():
            if "seg_layers" in name:
                value.mul_(CONTRAST if name.endswith("weight") else 0)
    trainer.inference_allowed_mirroring_axes = tuple(job["mirroring"]) if job["mirroring"] else None
    target_folder = folder / f"fold_{fold}"
    target_folder.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(target_folder / "checkpoint_final.pth"))


def run_job(job: dict[str, Any]) -> None:
    """Write the folds and predict every image of the job."""
    folder, out = Path(job["folder"]), Path(job["out"])
    if "previous" in job:
        run_job(job["previous"])
    for fold in job["folds"]:
        write_fold(folder, job, fold)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), tuple(job["folds"]))
    out.mkdir(parents=True, exist_ok=True)
    dataset_reader = predictor.plans_manager.image_reader_writer_class()
    torch.half = torch.float32
    for name, files in job["images"].items():
        image, properties = dataset_reader.read_images(files)
        previous = None
        if "previous" in job:
            previous, _ = dataset_reader.read_seg(str(Path(job["previous"]["out"]) / f"{name}.nii.gz"))
        mask, probabilities = predictor.predict_single_npy_array(image, properties, previous, None, True)
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
