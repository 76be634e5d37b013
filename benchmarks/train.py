"""Compare a training of Voxflow with stock MONAI: the same data, network, loss, optimizer and patches.

python -m benchmarks.train [--cases 8] [--seconds 40] [--size 192 192 96] [--rounds 1] [--device cuda] [--ram]

MONAI's side does what the bundle spleen_ct_segmentation does: CacheDataset, DataLoader of two cases with four workers,
four patches of 96 voxels a case by RandCropByPosNegLabeld, UNet (16 to 256), DiceCELoss, Adam, and its engine: a
SupervisedTrainer with the bundle's post-processing, accuracy and two handlers of statistics, without validation. The
side "loop" is the same without the engine: a step written by hand, as a tutorial has it. On a GPU both use AMP, as the
bundle does, and every third step waits for the device, on all sides, so that steps can be timed and still follow each
other without a gap. docs/gpu.md tells how to run it on a machine without a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import MB, measure, name_device

if TYPE_CHECKING:
    from collections.abc import Callable

PATCH, PATCHES_A_CASE, CASES_A_BATCH = 96, 4, 2
WARM_UP = 2  # steps: memory is allocated and kernels are chosen
BLOCK = 3  # steps of training, then as many of pure forward and backward
CLIP_HU = (-57.0, 164.0)
SPACING = (1.5, 1.5, 2.0)
RATE = 1e-4


class TimeIsUpError(Exception):
    """The seconds of one side are over."""


def write_cases(folder: Path, count: int, size: tuple[int, int, int]) -> None:
    """Write volumes of soft tissue, noise and one bright organ, as 16-bit NIfTI."""
    from voxflow.geometry import Geometry
    from voxflow.volumes import Volume, write_volume

    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij", sparse=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        centre = rng.uniform(-0.4, 0.4, 3)
        label = sum(((a - c) / 0.35) ** 2 for a, c in zip(axes, centre, strict=True)) < 1
        image = np.where(label, 120, 40) + rng.normal(0, 30, size)
        geometry = Geometry.from_parts(size, SPACING)
        write_volume(folder / f"case{number}.nii.gz", Volume(image.astype(np.int16), geometry))
        write_volume(folder / f"case{number}_label.nii.gz", Volume(label.astype(np.uint8), geometry))


def work_done() -> float:
    """CPU seconds of this process so far, and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Clock:
    """Notes when steps end, and stops the training after a time.

    Attributes:
        began: when the process began, as ``time.time`` counts.
        steps: wall and CPU seconds of each step after the warm-up, the wait for its batch included.
        pure: the same of pure forward and backward of the same network on the same batch.
        patches: of a step.
    """

    def __init__(self, seconds: float, device: str, patches: int = PATCHES_A_CASE * CASES_A_BATCH) -> None:
        self.patches, self.every = patches, BLOCK if device == "cuda" else 1
        self.began = float(os.environ["BENCH_BEGAN"])
        self.seconds, self.device, self.first, self.count = seconds, device, 0.0, 0
        self.steps: list[tuple[float, float]] = []
        self.pure: list[tuple[float, float]] = []
        self._last = self._now()

    def step(self, pure: Callable[[], None] | None = None) -> bool:
        """Note the end of a step; return whether time is up."""
        self.count += 1
        if self.count == 1:
            self._wait()
            self.first = time.time() - self.began
        if self.count % self.every:
            return False
        self._wait()
        is_warm = self.count > max(WARM_UP, self.every)
        if is_warm:
            self.steps.append(self._since_last())
        if pure and is_warm and self.count % BLOCK == 0:
            for _ in range(BLOCK // self.every):
                self._last = self._now()
                for _ in range(self.every):
                    pure()
                self._wait()
                self.pure.append(self._since_last())
        self._last = self._now()
        measured = sum(wall for wall, _ in [*self.steps, *self.pure]) * self.every
        return measured > self.seconds and self.count > WARM_UP + BLOCK

    def write(self, path: Path) -> None:
        """Write what was measured."""
        patches = self.patches
        wall, cpu = self._typical(self.steps)
        values = {"rate": patches / wall, "cpu": cpu / patches, "steps": len(self.steps), "first": self.first}
        if self.pure:
            pure_wall, pure_cpu = self._typical(self.pure)
            values |= {"share": pure_wall / wall, "share_cpu": pure_cpu / cpu}
        path.write_text(json.dumps(values))

    def _wait(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    @staticmethod
    def _typical(times: list[tuple[float, float]]) -> tuple[float, float]:
        """The median wall time, and the mean CPU time, since that of other processes is seen only when they end."""
        return statistics.median(wall for wall, _ in times), statistics.fmean(cpu for _, cpu in times)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), work_done()

    def _since_last(self) -> tuple[float, float]:
        wall, cpu = self._now()
        return (wall - self._last[0]) / self.every, (cpu - self._last[1]) / self.every


def stock_monai(folder: Path, out: Path, clock: Clock, *, engine: bool) -> None:
    """Train as the bundle does, with its engine, or by the same steps in a plain loop."""
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet
    from torch.optim import Adam

    network = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch").to(clock.device)
    terms = {"include_background": False, "lambda_dice": 0.5, "lambda_ce": 0.5}
    loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True, **terms)
    parts = {"network": network, "loss_function": loss, "optimizer": Adam(network.parameters(), RATE)}
    run = by_engine if engine else by_hand
    run(monai_loader(folder), parts, clock, out.with_suffix(""))
    clock.write(out)


def monai_loader(folder: Path) -> Any:
    """The bundle's data; orientation and spacing are right already, and cached in any case."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        Orientationd,
        RandCropByPosNegLabeld,
        ScaleIntensityRanged,
        Spacingd,
    )

    keys = ["image", "label"]
    crop = {"spatial_size": [PATCH] * 3, "pos": 1, "neg": 1, "num_samples": PATCHES_A_CASE, "image_threshold": 0}
    transforms = Compose(
        [
            LoadImaged(keys=keys),
            EnsureChannelFirstd(keys=keys),
            Orientationd(keys=keys, axcodes="RAS", labels=None),
            Spacingd(keys=keys, pixdim=SPACING, mode=("bilinear", "nearest")),
            ScaleIntensityRanged("image", *CLIP_HU, 0.0, 1.0, clip=True),
            EnsureTyped(keys=keys),
            RandCropByPosNegLabeld(keys=keys, label_key="label", image_key="image", **crop),
        ]
    )
    files = [
        {"image": str(folder / f"{name}.nii.gz"), "label": str(folder / f"{name}_label.nii.gz")}
        for name in names(folder)
    ]
    dataset = CacheDataset(files, transforms, cache_rate=1.0, num_workers=4, progress=False)
    return DataLoader(dataset, batch_size=CASES_A_BATCH, shuffle=True, num_workers=4)


def by_engine(loader: Any, parts: dict[str, Any], clock: Clock, out: Path) -> None:
    """MONAI's own engine, with what the bundle's train.json hangs on it."""
    import ignite
    from monai.engines import SupervisedTrainer
    from monai.handlers import StatsHandler, TensorBoardStatsHandler, from_engine
    from monai.inferers import SimpleInferer
    from monai.transforms import Activationsd, AsDiscreted, Compose

    def note_step(engine: Any) -> None:
        if clock.step():
            engine.terminate()

    loss_of = from_engine(["loss"], first=True)
    trainer = SupervisedTrainer(
        device=clock.device,
        amp=clock.device == "cuda",
        max_epochs=100_000,
        train_data_loader=loader,
        **parts,
        inferer=SimpleInferer(),
        postprocessing=Compose(
            [
                Activationsd(keys="pred", softmax=True),
                AsDiscreted(keys=["pred", "label"], argmax=[True, False], to_onehot=2),
            ]
        ),
        key_train_metric={"train_accuracy": ignite.metrics.Accuracy(output_transform=from_engine(["pred", "label"]))},
        train_handlers=[
            StatsHandler(tag_name="train_loss", output_transform=loss_of),
            TensorBoardStatsHandler(log_dir=str(out), tag_name="train_loss", output_transform=loss_of),
        ],
    )
    trainer.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED, note_step)
    trainer.run()


def by_hand(loader: Any, parts: dict[str, Any], clock: Clock, _: Path) -> None:
    """What is left when the engine is taken away."""
    import torch

    network, loss_of, optimizer = parts["network"].train(), parts["loss_function"], parts["optimizer"]
    scaler = torch.amp.GradScaler(clock.device, enabled=clock.device == "cuda")
    while True:
        for batch in loader:
            image, label = (batch[key].as_tensor().to(clock.device) for key in ("image", "label"))
            optimizer.zero_grad()
            with torch.autocast(clock.device, enabled=clock.device == "cuda"):
                loss = loss_of(network(image), label)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if clock.step():
                return


def voxflow(folder: Path, out: Path, clock: Clock, precision: str) -> None:
    """Train through the library's own door."""
    from voxflow.config import load_workflow
    from voxflow.datalist import Case, Datalist
    from voxflow.tracking import NullTracker
    from voxflow.training import DataFacts, TrainOptions, loop, train

    step = loop.TrainingLoop.step

    def step_and_note(self: Any, epoch: int, group: list[Any]) -> None:
        step(self, epoch, group)
        if clock.step(lambda: pure(self, group)):
            raise TimeIsUpError

    def pure(self: Any, group: list[Any]) -> None:
        """The network alone: no loss, no optimizer, no new batch."""
        for batch in group:
            logits = self.network(batch.image.to(self.fabric.device, memory_format=self.memory_format))
            self.fabric.backward(logits, logits.detach())
        self.optimizer.zero_grad(set_to_none=True)

    loop.TrainingLoop.step = step_and_note  # type: ignore[method-assign]
    config = out.with_suffix(".config.json")
    config.write_text(json.dumps(configuration()))
    cases = tuple(Case(n, (folder / f"{n}.nii.gz",), folder / f"{n}_label.nii.gz", n) for n in names(folder))
    datalist = Datalist(folder / "d.json", folder, {"training": cases, "validation": ()})
    options = TrainOptions(precision=precision, accelerator=clock.device, resume=False)  # type: ignore[arg-type]
    facts = DataFacts(class_names=("background", "organ"))
    with contextlib.suppress(TimeIsUpError):
        train(load_workflow(config), datalist, options, out.with_suffix(""), facts=facts, tracker=NullTracker())
    clock.write(out)


def names(folder: Path) -> list[str]:
    """The cases' names."""
    return sorted(path.name.removesuffix("_label.nii.gz") for path in folder.glob("*_label.nii.gz"))


def configuration() -> dict[str, Any]:
    """The bundle's network, loss and optimizer in Clara's words."""
    low, high = CLIP_HU
    scale = {"fields": "image", "a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    crop = {"fields": "image", "label_field": "label", "size": [PATCH] * 3, "batch_size": PATCHES_A_CASE}
    load = [
        {"name": "LoadNifti", "args": {"fields": ["image", "label"]}},
        {"name": "ScaleIntensityRange", "args": scale},
    ]
    place = {"data_list_file_path": "", "data_file_base_dir": "", "output_batch_size": CASES_A_BATCH}
    terms = {"squared_pred": True, "batch": True, "skip_background": True, "lambda_dice": 0.5, "lambda_ce": 0.5}
    pipeline = {"name": "SegmentationImagePipelineWithCache"}
    return {
        "epochs": 100_000,
        "num_training_epoch_per_valid": 100_000,
        "learning_rate": RATE,
        "train": {
            "model": {
                "name": "Unet",
                "args": {"nf_enc": [16, 32, 64, 128, 256], "residual_units": 2, "use_batch_norm": True},
            },
            "loss": {"name": "DiceCE", "args": terms},
            "optimizer": {"name": "Adam"},
            "pre_transforms": [*load, {"name": "FastCropByPosNegRatio", "args": crop}],
            "image_pipeline": pipeline
            | {"args": {**place, "data_list_key": "training", "output_crop_size": [PATCH] * 3}},
        },
        "validate": {
            "pre_transforms": load,
            "image_pipeline": pipeline
            | {"args": {**place, "data_list_key": "validation", "output_crop_size": [-1, -1, -1]}},
            "inferer": {"name": "TFScanWindowInferer", "args": {"roi_size": [PATCH] * 3}},
        },
    }


def run(side: str, folder: Path, work: Path, seconds: float, device: str) -> dict[str, float]:
    """Run one side as a process of its own."""
    out = work / f"{side}.json"
    os.environ["BENCH_BEGAN"] = str(time.time())
    command = [sys.executable, "-m", "benchmarks.train", "--side", side, "--data", str(folder), "--out", str(out)]
    process = measure([*command, "--seconds", str(seconds), "--device", device])
    return {**json.loads(out.read_text()), "memory": process.memory / MB}


def compare(folder: Path, work: Path, seconds: float, rounds: int, device: str) -> None:
    """Print every figure, and the ratios within a round."""
    sides = ["monai", "loop", "bf16", "fp32"]
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(rounds):
        os.environ["VOXFLOW_CACHE"] = str(work / f"cache{number}")
        for side in sides:
            results[side].append(run(side, folder, work, seconds, device))
    units = {
        "rate": "patches/s",
        "cpu": "CPU s/patch",
        "share": "of pure forward and backward",
        "share_cpu": "of pure forward and backward, by CPU time",
        "memory": "MB",
    }
    for side in sides:
        for name, unit in units.items():
            if name in results[side][0]:
                print(f"figure {side}_{name} {statistics.median(result[name] for result in results[side]):.3f} {unit}")
    # bf16 runs first and finds an empty cache, fp32 finds what bf16 has prepared.
    firsts = {"monai": "monai", "voxflow_cold": "bf16", "voxflow_warm": "fp32"}
    for name, side in firsts.items():
        print(f"figure {name}_first_step {statistics.median(result['first'] for result in results[side]):.1f} s")
    for peer, ending in (("loop", "_to_loop"), ("monai", "")):
        for side in ("bf16", "fp32"):
            pairs = list(zip(results[peer], results[side], strict=True))
            rates = [ours["rate"] / theirs["rate"] for theirs, ours in pairs]
            print(f"figure {side}{ending}_spread {min(rates):.2f}-{max(rates):.2f} of {rounds} round(s)")
            print(f"ratio {side}{ending}_cpu {statistics.median(p['cpu'] / o['cpu'] for p, o in pairs):.2f}")
            print(f"ratio {side}{ending} {statistics.median(rates):.2f}")


def compare_memory(work: Path, seconds: float) -> None:
    """Print the peak memory of a training on 8 and on 64 cases."""
    peaks = []
    for count in (8, 64):
        folder = work / f"{count}"
        folder.mkdir()
        write_cases(folder, count, (160, 160, 96))
        os.environ["VOXFLOW_CACHE"] = str(work / f"cache{count}")
        peaks.append(run("bf16", folder, work, seconds, "cpu")["memory"])
        print(f"figure memory_{count}_cases {peaks[-1]:.0f} MB")
    print(f"ratio memory_64_to_8 {peaks[1] / peaks[0]:.3f}")


def one_side(side: str, folder: Path, out: Path, clock: Clock) -> None:
    """What a process of its own does."""
    if side in {"monai", "loop"}:
        stock_monai(folder, out, clock, engine=side == "monai")
    else:
        voxflow(folder, out, clock, side)


def main() -> int:
    """Run one side, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=3, default=(192, 192, 96))
    parser.add_argument("--seconds", type=float, default=40, help="of training, for each side")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--ram", action="store_true", help="compare 8 with 64 cases instead")
    parser.add_argument("--side", choices=["monai", "loop", "bf16", "fp32"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one_side(arguments.side, arguments.data, arguments.out, Clock(arguments.seconds, arguments.device))
        return 0
    work = Path(tempfile.mkdtemp(prefix="voxflow-train-"))
    try:
        if arguments.ram:
            compare_memory(work, arguments.seconds)
        else:
            print(f"device {name_device(arguments.device)}")
            (work / "data").mkdir()
            write_cases(work / "data", arguments.cases, tuple(arguments.size))
            compare(work / "data", work, arguments.seconds, arguments.rounds, arguments.device)
    finally:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
