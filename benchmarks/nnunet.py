"""nnU-Net's side of benchmarks.accuracy: its plan, its trainer's steps and its predictor, for so many seconds or steps.

It runs in an environment of its own, where ``pip install nnunetv2`` was done, and needs nothing of Voxflow:

PYTHON benchmarks/nnunet.py WORK NAME RESULTS.json (--seconds S | --steps N) [--seed 7] [--device cpu] [--only-train]

WORK is the folder of the workspace NAME; the images, of one channel, are those that the other sides are shown.
nnU-Net's schedule counts a thousand epochs; here the same decay of its learning rate ends with the budget. Preparing
and predicting are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

DATASET, CONFIGURATION = "Dataset004_Compared", "3d_fullres"
DECAY = 0.9
WARM_UP = 10  # steps


def lay_out(root: Path, datalist: dict[str, Any], raw: Path) -> dict[str, list[str]]:
    """Copy images and labels to where nnU-Net looks for them; the names of the cases by part."""
    names: dict[str, list[str]] = {}
    for part in ("training", "validation", "testing"):
        kind = "Ts" if part == "testing" else "Tr"
        for item in datalist[part]:
            name = Path(item["label"]).name.removesuffix(".nii.gz")
            names.setdefault(part, []).append(name)
            for folder, key, suffix in (("images", "image", "_0000"), ("labels", "label", "")):
                target = raw / f"{folder}{kind}" / f"{name}{suffix}.nii.gz"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / item[key], target)
    modality = json.loads((root / "fingerprint.json").read_text()).get("modality") or "MRI"
    description = {
        "channel_names": {"0": modality},
        "labels": {name: int(value) for value, name in datalist["labels"].items()},
        "numTraining": len(names["training"]) + len(names["validation"]),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return names


def train(folder: Path, names: dict[str, list[str]], arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Train by nnU-Net's own steps; the trainer, how long and how many steps that were, and its patch and batch."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    (folder / "splits_final.json").write_text(json.dumps([{"train": names["training"], "val": names["validation"]}]))
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset = json.loads((folder / "dataset.json").read_text())
    torch.manual_seed(arguments.seed)
    trainer = nnUNetTrainer(plans, CONFIGURATION, 0, dataset, device=torch.device(arguments.device))
    trainer.initialize()
    trainer.on_train_start()
    trainer.network.train()
    next(trainer.dataloader_train)  # what starts its workers is no training yet
    began, steps, share, ends = time.monotonic(), 0, 0.0, [time.monotonic()]
    while share < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - share) ** DECAY
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
        ends.append(time.monotonic())
        share = steps / arguments.steps if arguments.steps else (time.monotonic() - began) / arguments.seconds
    # The first steps choose kernels and compile.
    settled = np.diff(ends)[min(WARM_UP, steps - 1) :]
    counts = {"seconds": ends[-1] - began, "steps": steps, "step_seconds": float(np.median(settled))}
    manager = trainer.configuration_manager
    return trainer, counts | {"patch": list(map(int, manager.patch_size)), "batch": int(trainer.batch_size)}


def predict(trainer: Any, source: Path, target: Path) -> None:
    """Segment a folder as nnU-Net does by default: half-overlapping windows, mirrored along every axis."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=trainer.device, perform_everything_on_device=False, allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    predictor.predict_from_files(
        str(source), str(target), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )


def score_cases(masks: Path, truth: Path, names: list[str], classes: int) -> list[list[float]]:
    """Dice by case and class; NaN where neither mask has the class."""
    import SimpleITK as sitk

    scores = []
    for name in names:
        mask, label = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz"))) for folder in (masks, truth)
        )
        pairs = [(mask == value, label == value) for value in range(1, classes)]
        scores.append([2 * (a & b).sum() / total if (total := a.sum() + b.sum()) else np.nan for a, b in pairs])
    return [[float(value) for value in row] for row in scores]


def main() -> None:
    """Prepare, train, judge, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("name")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-train", action="store_true", help="judge nothing: for the speed of the steps")
    arguments = parser.parse_args()
    home = arguments.work / "nnunet"
    shutil.rmtree(home, ignore_errors=True)
    for kind in ("raw", "preprocessed", "results"):
        (home / kind).mkdir(parents=True)
        os.environ[f"nnUNet_{kind}"] = str(home / kind)
    raw = home / "raw" / DATASET
    datalist = json.loads((arguments.work / "data/datalists" / arguments.name / "dataset_0.json").read_text())
    names = lay_out(arguments.work / "data/resampled" / arguments.name, datalist, raw)
    prepare = Path(sys.executable).with_name("nnUNetv2_plan_and_preprocess")
    subprocess.run([str(prepare), "-d", "4", "-c", CONFIGURATION, "-np", "2"], check=True)
    trainer, counts = train(home / "preprocessed" / DATASET, names, arguments)
    if arguments.only_train:
        arguments.results.write_text(json.dumps(counts))
        os._exit(0)
    predict(trainer, raw / "imagesTs", home / "found")
    classes = max(int(value) for value in datalist["labels"]) + 1
    scores = score_cases(home / "found", raw / "labelsTs", names["testing"], classes)
    cases = [item["case"] for item in datalist["testing"]]
    arguments.results.write_text(json.dumps({"cases": dict(zip(cases, scores, strict=True)), "curve": [], **counts}))
    # Its workers for augmentation wait for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
