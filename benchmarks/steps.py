"""Compare the steps a second of the template ``auto`` with nnU-Net's and stock MONAI's: the same patch and batch.

python -m benchmarks.steps SOURCE --work FOLDER [--seconds 30] [--sides voxflow monai nnunet --nnunet PYTHON]
    [--patch 40 56 40 --batch 9] [--device cuda]

SOURCE is a folder of images as ``voxflow new`` takes it, or the name of one in $VOXFLOW_DATA, such as hippocampus.
FOLDER becomes a folder of workspaces, or is one of benchmarks.accuracy. Each side trains as it does there, with its own
network and its own augmentation, for so many seconds after its first steps; nothing is judged. nnU-Net's plan decides
patch and batch where it takes part (40 × 56 × 40 and 9 on the hippocampus), else the options do. On a GPU all sides
use AMP. docs/gpu.md tells how to run it on a machine without a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import ROOT, Comparison, find_source
from benchmarks.measure import name_device
from benchmarks.train import Clock, TimeIsUpError

SIDES = ("nnunet", "voxflow", "monai")
PATCH, BATCH = (40, 56, 40), 9
NEVER = 100_000  # epochs
LOADERS = 8  # processes of MONAI's data loader, at most


def train_voxflow(arguments: argparse.Namespace, clock: Clock) -> None:
    """Train by the library's own door, with the plan that ``plan: auto`` makes but for patch and batch."""
    from voxflow.config import load_workflow, read_json
    from voxflow.datalist import Datalist
    from voxflow.planning import plan_training
    from voxflow.tracking import NullTracker
    from voxflow.training import TrainOptions, loop, read_facts, train

    step = loop.TrainingLoop.step

    def step_and_note(self: Any, epoch: int, group: list[Any]) -> None:
        step(self, epoch, group)
        if clock.step():
            raise TimeIsUpError

    loop.TrainingLoop.step = step_and_note  # type: ignore[method-assign]
    resampled = arguments.work / "data/resampled" / arguments.name
    datalist_file = arguments.work / "data/datalists" / arguments.name / "dataset_0.json"
    config = arguments.work / "mmars" / arguments.name / "config/config_train.json"
    decided, _ = plan_training({"plan": "auto"}, resampled, config)
    chain = read_json(config)["train"]["pre_transforms"]
    crop = next(n for n, transform in enumerate(chain) if "size" in transform.get("args", {}))
    patch = list(arguments.patch)
    decided |= {
        "DATA_ROOT": resampled.as_posix(),
        "DATASET_JSON": datalist_file.as_posix(),
        "PROCESSING_TASK": "segmentation",
        "epochs": NEVER,
        "num_training_epoch_per_valid": NEVER,
        f"train.pre_transforms[{crop}].args.size": patch,
        "train.image_pipeline.args.output_crop_size": patch,
        "train.image_pipeline.args.output_batch_size": arguments.batch,
        "validate.inferer.args.roi_size": patch,
    }
    datalist = Datalist.read(datalist_file, resampled)
    facts = read_facts(
        resampled / "labels.json", json.loads((resampled / "resample.json").read_text()), datalist.metadata
    )
    options = TrainOptions(accelerator=arguments.device, resume=False)
    with contextlib.suppress(TimeIsUpError):
        workflow = load_workflow(config, overrides=decided)
        train(workflow, datalist, options, arguments.out.with_suffix(""), facts=facts, tracker=NullTracker())


def train_monai(arguments: argparse.Namespace, clock: Clock) -> None:
    """Train as MONAI's tutorials do; see benchmarks/accuracy_monai.py."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd

    from benchmarks.accuracy_monai import KEYS, RATE, list_transforms

    root = arguments.work / "data/resampled" / arguments.name
    datalist = json.loads((arguments.work / "data/datalists" / arguments.name / "dataset_0.json").read_text())
    files = [{key: str(root / item[key]) for key in KEYS} for item in datalist["training"]]
    head = [LoadImaged(KEYS), EnsureChannelFirstd(KEYS), NormalizeIntensityd("image", nonzero=True)]
    tail = list_transforms(list(arguments.patch), whole=True)
    dataset = CacheDataset(files, Compose([*head, *tail]), progress=False)
    workers = max(1, min(LOADERS, (os.cpu_count() or 1) - 1))
    loader = DataLoader(
        dataset, batch_size=arguments.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )
    classes = max(int(value) for value in datalist["labels"]) + 1
    network = UNet(3, 1, classes, (16, 32, 64, 128), (2, 2, 2), num_res_units=2).to(arguments.device)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    while True:
        for batch in loader:
            image, label = (batch[key].as_tensor().to(arguments.device) for key in KEYS)
            optimizer.zero_grad()
            with torch.autocast(arguments.device, torch.bfloat16):
                logits = network(image)
            loss_of(logits.float(), label).backward()
            optimizer.step()
            if clock.step():
                return


def run_nnunet(arguments: argparse.Namespace) -> dict[str, Any]:
    """Let nnU-Net train in its own environment."""
    out = arguments.work.absolute() / "nnunet_steps.json"
    command = [str(arguments.nnunet.absolute()), str(ROOT / "benchmarks/nnunet.py"), str(arguments.work.absolute())]
    command += [arguments.name, str(out), "--seconds", str(arguments.seconds), "--only-train"]
    subprocess.run([*command, "--device", arguments.device], check=True, cwd=arguments.work)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def run_side(side: str, arguments: argparse.Namespace) -> float:
    """Run one side as a process of its own; return its steps a second."""
    out = arguments.work.absolute() / f"steps_{side}.json"
    command = [sys.executable, "-m", "benchmarks.steps", arguments.source, "--work", str(arguments.work.absolute())]
    command += ["--name", arguments.name, "--side", side, "--out", str(out), "--device", arguments.device]
    command += ["--seconds", str(arguments.seconds), "--batch", str(arguments.batch)]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    places = {"PYTHONPATH": paths, "BENCH_BEGAN": str(time.time()), "VOXFLOW_CACHE": str(arguments.work / "cache")}
    command += ["--patch", *map(str, arguments.patch)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | places)
    result = json.loads(out.read_text())
    print(f"figure {side}_first_step {result['first']:.1f} s")
    return float(result["rate"]) / int(arguments.batch)


def compare(arguments: argparse.Namespace) -> None:
    """Print every side's figure, and the ratios."""
    print(f"device {name_device(arguments.device)}")
    rates: dict[str, float] = {}
    if "nnunet" in arguments.sides:
        result = run_nnunet(arguments)
        arguments.patch, arguments.batch = result["patch"], result["batch"]
        rates["nnunet"] = 1 / result["step_seconds"]
    for side in sorted(set(arguments.sides) - {"nnunet"}):
        rates[side] = run_side(side, arguments)
    print(f"figure patch {' x '.join(map(str, arguments.patch))} voxels, {arguments.batch} a step")
    for side, rate in rates.items():
        print(f"figure {side}_steps {rate:.3f} steps/s")
    for side in rates.keys() - {"voxflow"} if "voxflow" in rates else ():
        print(f"ratio steps_voxflow_to_{side} {rates['voxflow'] / rates[side]:.2f}")


def main() -> int:
    """Run one side, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--work", type=Path, required=True, help="the folder of workspaces; made where it is missing")
    parser.add_argument("--name", help="of the workspace; the source's own when left out")
    parser.add_argument("--seconds", type=float, default=30, help="of training, for each side")
    parser.add_argument("--sides", choices=SIDES, nargs="+", default=["voxflow", "monai"])
    parser.add_argument("--nnunet", type=Path, metavar="PYTHON", help="where nnunetv2 is installed, for that side")
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--side", choices=["voxflow", "monai"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        clock = Clock(arguments.seconds, arguments.device, arguments.batch)
        {"voxflow": train_voxflow, "monai": train_monai}[arguments.side](arguments, clock)
        clock.write(arguments.out)
        return 0
    if "nnunet" in arguments.sides and arguments.nnunet is None:
        parser.error("the side nnunet needs --nnunet PYTHON")
    source = find_source(arguments.source)
    arguments.name = arguments.name or source.name
    Comparison(arguments.work.absolute(), arguments.name, arguments.device, None).prepare(source, "auto")
    compare(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
