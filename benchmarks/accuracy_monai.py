"""Stock MONAI's side of benchmarks.accuracy: what its tutorials do, for so many seconds or steps.

python benchmarks/accuracy_monai.py WORK NAME RESULTS.json (--seconds S | --steps N) [--seed 7] [--device cpu]

CacheDataset, DataLoader, RandAffined, UNet of 16 to 128 filters and DiceCELoss, with bfloat16 and a one-cycle learning
rate that ends with the budget. The patch is the median image, each axis at most 96 voxels; where it is smaller than the
image, RandCropByPosNegLabeld takes two patches of each of two cases a step. WORK is the folder of the workspace NAME,
whose resampled images and datalist are read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandScaleIntensityd,
    ResizeWithPadOrCropd,
    SpatialPadd,
)

KEYS = ("image", "label")
BATCH, RATE, WARM_UP = 4, 0.004, 0.2
LARGEST, MULTIPLE = 96, 8
VALIDATIONS = 8


def choose_patch(fingerprint: dict[str, Any]) -> tuple[list[int], bool]:
    """The patch in voxels, and whether it covers the median image."""
    median = fingerprint["size"]["median"]
    patch = [min(LARGEST, int(-(-n // MULTIPLE) * MULTIPLE)) for n in median]
    return patch, all(n >= m for n, m in zip(patch, median, strict=True))


def list_transforms(patch: list[int], *, whole: bool) -> list[Any]:
    """The random transforms of the training."""
    affine = {"rotate_range": [np.pi / 18] * 3, "scale_range": [0.1] * 3, "mode": ("bilinear", "nearest")}
    places = (
        [ResizeWithPadOrCropd(KEYS, patch)]
        if whole
        else [SpatialPadd(KEYS, patch), RandCropByPosNegLabeld(KEYS, "label", patch, num_samples=2)]
    )
    return [
        *places,
        RandAffined(KEYS, prob=1.0, padding_mode="zeros", **affine),
        RandScaleIntensityd("image", factors=0.1, prob=1.0),
    ]


def one_cycle(share: float) -> float:
    """Up during the first fifth, then down, both along half a cosine."""
    if share < WARM_UP:
        return float(0.04 + 0.96 * (1 - np.cos(np.pi * share / WARM_UP)) / 2)
    return float((1 + np.cos(np.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2)


def score_cases(network: torch.nn.Module, cases: list[Any], patch: list[int], classes: int) -> list[list[float]]:
    """Dice by case and class over whole volumes; NaN where neither mask has the class."""
    device = next(network.parameters()).device
    scores = []
    network.eval()
    with torch.inference_mode():
        for case in cases:
            image = case["image"].as_tensor()[None].to(device)
            logits = sliding_window_inference(image, patch, 4, network, mode="gaussian")
            mask, truth = logits.argmax(1)[0].cpu().numpy(), case["label"][0].numpy()
            pairs = [(mask == value, truth == value) for value in range(1, classes)]
            scores.append([2 * (a & b).sum() / total if (total := a.sum() + b.sum()) else np.nan for a, b in pairs])
    network.train()
    return [[float(value) for value in row] for row in scores]


def train(work: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, and judge the test cases at the end."""
    root = work / "data/resampled" / name
    datalist = json.loads((work / "data/datalists" / name / "dataset_0.json").read_text())
    patch, whole = choose_patch(json.loads((root / "fingerprint.json").read_text()))
    parts = {
        key: [{k: str(root / item[k]) for k in KEYS} for item in datalist[key]]
        for key in ("training", "validation", "testing")
    }
    head = [LoadImaged(KEYS), EnsureChannelFirstd(KEYS), NormalizeIntensityd("image", nonzero=True)]
    dataset = CacheDataset(parts["training"], Compose([*head, *list_transforms(patch, whole=whole)]), progress=False)
    unseen = {key: list(CacheDataset(parts[key], Compose(head), progress=False)) for key in ("validation", "testing")}
    torch.manual_seed(arguments.seed)
    classes = max(int(value) for value in datalist["labels"]) + 1
    network = UNet(3, 1, classes, (16, 32, 64, 128), (2, 2, 2), num_res_units=2).to(arguments.device)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    batch_size = min(BATCH if whole else BATCH // 2, len(dataset))
    loader = DataLoader(
        dataset,
        num_workers=1,
        batch_size=batch_size,
        shuffle=True,
        persistent_workers=True,
        collate_fn=list_data_collate,
    )
    curve: list[dict[str, float]] = []
    began, steps, share = time.monotonic(), 0, 0.0
    while share < 1:
        for batch in loader:
            share = steps / arguments.steps if arguments.steps else (time.monotonic() - began) / arguments.seconds
            if share >= 1:
                break
            optimizer.param_groups[0]["lr"] = RATE * one_cycle(share)
            optimizer.zero_grad()
            with torch.autocast(arguments.device, torch.bfloat16):
                logits = network(batch["image"].as_tensor().to(arguments.device))
            loss = loss_of(logits.float(), batch["label"].as_tensor().to(arguments.device))
            loss.backward()
            optimizer.step()
            steps += 1
        if share >= (len(curve) + 1) / VALIDATIONS:
            scores = score_cases(network, unseen["validation"], patch, classes)
            curve.append({"seconds": time.monotonic() - began, "mean_dice": float(np.nanmean(scores))})
    elapsed = time.monotonic() - began
    names = [item["case"] for item in datalist["testing"]]
    scores = score_cases(network, unseen["testing"], patch, classes)
    return {"seconds": elapsed, "steps": steps, "curve": curve, "cases": dict(zip(names, scores, strict=True))}


def main() -> None:
    """Train, judge, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("name")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    arguments.results.write_text(json.dumps(train(arguments.work, arguments.name, arguments)))


if __name__ == "__main__":
    main()
