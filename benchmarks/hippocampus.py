"""Compare the template ``auto`` with MONAI and nnU-Net on the hippocampus: the same images, the same minutes.

python -m benchmarks.hippocampus SOURCE [--seconds 140 900] [--clock processor] [--chart docs/images/hippocampus.svg]
    [--sides voxflow monai nnunet --nnunet PYTHON]

SOURCE holds images/ and labels/ of the Decathlon's Task04. 72 pairs are learnt from, 8 validate, and 20 that no side
sees before its end are judged once, in the original images' geometry: Voxflow's by its own stages, from convert to
evaluate. MONAI's side is what its tutorials do (CacheDataset, DataLoader, RandAffined, UNet of 16 to 128 filters,
DiceCELoss), with bfloat16 and a one-cycle learning rate that ends with the time. nnU-Net's side is its own plan,
trainer and predictor (benchmarks/nnunet.py), run by a PYTHON where it is installed, by the clock on the wall.

On a machine that others use, ``--clock processor`` counts a second where two cores have worked for this training for
one second each, waiting left out; on an idle machine it is a little shorter than a second of the clock on the wall. A
step on a crowded machine costs more of such seconds all the same: figures to quote want an idle one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

NAME = "hippocampus"
VALIDATION, SEED = 8, 7
SIZE = (40, 56, 40)
BATCH, RATE, WARM_UP = 4, 0.004, 0.2
VALIDATIONS = 8
# The 20 that are left for the end, by the pseudonyms that this key gives them; nothing was chosen by looking at them.
KEY = "21259342ad6ffd89842f1c0175cfad15bc524c728c5625b3eea896449fd2cbdf"
TESTING = (
    "0b61f47c 0fda5dd0 1ddd3411 33bc7515 3f1fb225 54e9aa3c 65042e0b 6eda6238 77d5b3fd 855fcd8b a5053619 "
    "a9251116 af74a295 b193b2ce b7a5d218 bf3696cb c1743697 c76d0ee4 edc969f9 fc3c5876"
)
CORES = 2
LEAST = 0.8  # of Dice, on the chart
STAGES = ("convert", "validate", "resample", "split")
ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"voxflow": "#0b6e4f", "monai": "#8a8d91", "nnunet": "#c05621"}
NAMES = {"voxflow": "Voxflow, template auto", "monai": "stock MONAI", "nnunet": "nnU-Net"}

Curve = list[tuple[float, float]]
Results = dict[str, dict[str, Any]]


def prepare(work: Path, source: Path) -> None:
    """Make the workspace from the template, and run the stages before training."""
    from voxflow.workspace import create_workspace

    (work / "params.yaml").write_text("workspaces: {}\n")
    create_workspace(NAME, source.absolute(), "auto", root=work)
    change(work, "split", {"testing": TESTING.split(), "validation": VALIDATION, "seed": SEED})
    for stage in STAGES:
        program(work, stage)


def change(work: Path, stage: str, values: dict[str, Any]) -> None:
    """Set parameters of a stage."""
    params = yaml.safe_load((work / "params.yaml").read_text())
    params["workspaces"][NAME][stage].update(values)
    (work / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def program(work: Path, stage: str, clock: str = "wall") -> None:
    """Run a stage as DVC does; by the processor's clock within this module."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    module = ["tasks." + stage] if clock == "wall" else ["benchmarks.hippocampus", "--by-processor"]
    subprocess.run(
        [sys.executable, "-m", *module, NAME],
        cwd=work,
        env=os.environ | {"PYTHONPATH": paths, "VOXFLOW_CACHE": str(work / "cache"), "VOXFLOW_PSEUDONYM_KEY": KEY},
        check=True,
    )


def seconds_worked() -> float:
    """The processor's seconds of this process, as if its cores had shared them evenly."""
    return time.process_time() / CORES


def train_by_processor() -> int:
    """The stage train, with seconds worked in the place of seconds passed."""
    from types import SimpleNamespace

    from tasks import train as stage
    from tasks.common.stage import main as run
    from voxflow.training import loop

    loop.time = SimpleNamespace(monotonic=seconds_worked)  # type: ignore[assignment, attr-defined]
    sys.argv = ["train", NAME]
    return run("train", stage.run)


def voxflow(work: Path, seconds: float, clock: str) -> tuple[dict[str, float], Curve]:
    """Train for so long, export, and judge; Dice by class, and the mean in validation by seconds."""
    change(work, "train", {"max_minutes": seconds / 60, "resume": False})
    program(work, "train", clock)
    for stage in ("export", "evaluate"):
        program(work, stage)
    metrics = json.loads((work / "data/metrics" / NAME / "evaluate.json").read_text())
    with (work / "mmars" / NAME / "models/curves.csv").open(newline="") as stream:
        curve = [(float(row["seconds"]), float(row["mean_dice"])) for row in csv.DictReader(stream)]
    trained = json.loads((work / "data/metrics" / NAME / "train.json").read_text())
    scores = {"anterior": metrics["dice_label_1"], "posterior": metrics["dice_label_2"]}
    return scores | {"seconds": trained["seconds"], "steps": trained["steps"]}, curve


def monai(work: Path, seconds: float, clock: str) -> tuple[dict[str, float], Curve]:
    """The same in a process of its own."""
    out = work / "monai.json"
    command = [sys.executable, "-m", "benchmarks.hippocampus", str(work), "--monai", str(seconds), "--clock", clock]
    subprocess.run([*command, "--results", str(out)], check=True, cwd=ROOT)
    content = json.loads(out.read_text())
    return content["found"], [(at, value) for at, value in content["curve"]]


def nnunet(work: Path, seconds: float, python: Path) -> tuple[dict[str, float], Curve]:
    """The same in nnU-Net's own environment."""
    out = work / "nnunet.json"
    subprocess.run([python, ROOT / "benchmarks/nnunet.py", work, f"{seconds:g}", out], check=True, cwd=work)
    return json.loads(out.read_text())["found"], []


def train_monai(work: Path, seconds: float, clock: str, out: Path) -> None:
    """Train, and judge the test cases at the end."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        RandAffined,
        RandScaleIntensityd,
        ResizeWithPadOrCropd,
    )

    keys = ["image", "label"]
    root = work / "data/resampled" / NAME
    datalist = json.loads((work / "data/datalists" / NAME / "dataset_0.json").read_text())
    parts = {key: [{k: str(root / item[k]) for k in keys} for item in datalist[key]] for key in
             ("training", "validation", "testing")}  # fmt: skip
    head = [LoadImaged(keys), EnsureChannelFirstd(keys), NormalizeIntensityd("image", nonzero=True)]
    affine = {"rotate_range": [np.pi / 18] * 3, "scale_range": [0.1] * 3, "mode": ("bilinear", "nearest")}
    tail = [
        ResizeWithPadOrCropd(keys, SIZE),
        RandAffined(keys, prob=1.0, padding_mode="zeros", **affine),
        RandScaleIntensityd("image", factors=0.1, prob=1.0),
    ]
    dataset = CacheDataset(parts["training"], Compose([*head, *tail]), progress=False)
    unseen = {key: list(CacheDataset(parts[key], Compose(head), progress=False)) for key in ("validation", "testing")}
    torch.manual_seed(SEED)
    network = UNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    # What a worker's process computes would not be counted by the processor's clock.
    workers = {"num_workers": 1, "persistent_workers": True} if clock == "wall" else {}
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, **workers)
    now = time.monotonic if clock == "wall" else seconds_worked
    curve: Curve = []
    began, steps = now(), 0
    while (share := (now() - began) / seconds) < 1:
        for batch in loader:
            share = min(1.0, (now() - began) / seconds)
            optimizer.param_groups[0]["lr"] = RATE * one_cycle(share)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch["image"].as_tensor())
            loss = loss_of(logits.float(), batch["label"].as_tensor())
            loss.backward()
            optimizer.step()
            steps += 1
            if share >= 1:
                break
        if share >= (len(curve) + 1) / VALIDATIONS:
            curve.append((now() - began, float(np.mean(dice(network, unseen["validation"])))))
    elapsed = now() - began
    anterior, posterior = dice(network, unseen["testing"])
    scores = {"anterior": anterior, "posterior": posterior, "seconds": elapsed, "steps": steps}
    out.write_text(json.dumps({"found": scores, "curve": curve}))


def one_cycle(share: float) -> float:
    """Up during the first fifth, then down, both along half a cosine."""
    if share < WARM_UP:
        return float(0.04 + 0.96 * (1 - np.cos(np.pi * share / WARM_UP)) / 2)
    return float((1 + np.cos(np.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2)


def dice(network: Any, cases: list[Any]) -> tuple[float, float]:
    """Mean Dice of both classes over whole volumes."""
    import torch
    from monai.inferers import sliding_window_inference

    scores = []
    network.eval()
    with torch.inference_mode():
        for case in cases:
            logits = sliding_window_inference(case["image"].as_tensor()[None], SIZE, 4, network, mode="gaussian")
            mask, truth = logits.argmax(1)[0].numpy(), case["label"][0].numpy()
            pairs = [(mask == value, truth == value) for value in (1, 2)]
            scores.append([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    network.train()
    anterior, posterior = np.mean(scores, 0)
    return float(anterior), float(posterior)


def draw(path: Path, content: Results, clock: str) -> None:
    """Draw validation against time as lines, the unseen cases at the end as points."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for side, runs in content.items():
        colour = COLOURS[side]
        for number, result in enumerate(runs.values()):
            curve = np.array(result["curve"]).reshape(-1, 2)
            axes.plot(curve[:, 0], curve[:, 1], color=colour, lw=1.2, alpha=0.6)
            mean = (result["anterior"] + result["posterior"]) / 2
            # What lies below the axes is shown at their foot, as pointing down.
            mean, mark = (mean, "o") if mean > LEAST else (LEAST + 0.003, "v")
            axes.plot(result["seconds"], mean, mark, color=colour, ms=8, label=None if number else NAMES[side])
            text, below = f"{result['anterior']:.3f} / {result['posterior']:.3f}", side == "monai"
            placement = {"xytext": (8, -14 if below else 8), "textcoords": "offset points", "ha": "right"}
            axes.annotate(text, (result["seconds"], mean), color=colour, **placement)
    word = "of training" if clock == "wall" else "that both cores have worked for the training"
    axes.set(xscale="log", ylim=(LEAST, 0.92), xlabel=f"seconds {word}; two cores, no GPU", ylabel="mean Dice")
    axes.set_title("Hippocampus: points are 20 unseen cases (anterior / posterior), lines 8 in validation", fontsize=9)
    axes.legend(frameon=False, loc="upper left")
    axes.grid(alpha=0.2, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> int:
    """Run both sides for every time, print the figures, draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--seconds", type=float, nargs="+", default=[140, 900])
    parser.add_argument("--sides", choices=list(COLOURS), nargs="+", default=["voxflow", "monai"])
    parser.add_argument("--nnunet", type=Path, metavar="PYTHON", help="where nnunetv2 is installed, for that side")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--results", type=Path, help="keep figures and curves as JSON, beside those that it holds")
    parser.add_argument("--work", type=Path, help="an empty folder for the workspace, or one of an earlier run")
    parser.add_argument("--by-processor", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--monai", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.by_processor:
        return train_by_processor()
    if arguments.monai:
        train_monai(arguments.source, arguments.monai, arguments.clock, arguments.results)
        return 0
    if "nnunet" in arguments.sides and (arguments.nnunet is None or arguments.clock != "wall"):
        parser.error("the side nnunet needs --nnunet PYTHON, and the clock on the wall")
    results_file = Path(arguments.results) if arguments.results else Path(os.devnull)
    content = json.loads(results_file.read_text() or "{}") if results_file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="voxflow-hippocampus-") as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "data/datalists").exists():
            prepare(folder, arguments.source)
        for seconds in arguments.seconds:
            for side in arguments.sides:
                if side == "nnunet":
                    scores, curve = nnunet(folder.absolute(), seconds, arguments.nnunet.absolute())
                else:
                    scores, curve = {"voxflow": voxflow, "monai": monai}[side](folder, seconds, arguments.clock)
                content.setdefault(side, {})[f"{seconds:g}"] = {**scores, "curve": curve}
                results_file.write_text(json.dumps(content, indent=1))
    if arguments.chart:
        draw(arguments.chart, content, arguments.clock)
    report(content)
    return 0


def report(content: Results) -> None:
    """Print the figures, and how much larger the others' share of wrong voxels is."""
    for side, runs in content.items():
        for seconds, result in runs.items():
            for name in ("anterior", "posterior"):
                print(f"figure {side}_{name}_{seconds}s {result[name]:.4f} Dice")
            print(f"figure {side}_steps_{seconds}s {result['steps']:.0f} steps in {result['seconds']:.0f} s")
    ours = content.get("voxflow", {})
    for side in sorted(content.keys() - {"voxflow"}):
        for seconds in sorted(ours.keys() & content[side].keys(), key=float):
            errors = [
                2 - result["anterior"] - result["posterior"] for result in (ours[seconds], content[side][seconds])
            ]
            print(f"ratio error_{side}_to_voxflow_{seconds}s {errors[1] / errors[0]:.2f}")


if __name__ == "__main__":
    sys.exit(main())
