"""Compare inference from a CT file to its mask file, as whole processes: the MONAI spleen bundle's, and ours.

The network is the bundle's (U-Net, 16 to 256 channels, batch norm) with random but fixed weights; both sides read the
same NIfTI, bring it to 1.5 × 1.5 × 2 mm, window it, run the network, and write the mask on the image's own grid. On a
GPU the bundle computes with AMP, as its authors advise. ``loaded`` is the second pass over one case in one process.
With several cases, the time of one more case of a queue is what it takes longer than a single case, by the number of
the others.

python -m benchmarks.infer --image CT.nii.gz [--slices 300] [--rounds 3] [--device cuda] [--cases 8]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Run, figures, measure, name_device, ratio

if TYPE_CHECKING:
    import torch

ROI, OVERLAP, BATCH = (96, 96, 96), 0.5, 4
SPACING = (1.5, 1.5, 2.0)
LOW, HIGH = -57, 164
SIDES = ("monai", "default", "same")
# Takes the cases' images and the folder of the results.
Infer = Callable[[list[Path], Path], None]


def network() -> torch.nn.Module:
    """The bundle's network; running statistics are filled once, so that batch norm does what it does when trained."""
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    net: torch.nn.Module = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(2, 1, 64, 64, 64))
    return net.eval()


def open_monai(weights: Path, device: str) -> Infer:
    """What the bundle's inference.json configures: its transforms, evaluator, workers and type of mask."""
    import torch
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedEvaluator
    from monai.handlers import StatsHandler
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import UNet
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        Invertd,
        LoadImaged,
        Orientationd,
        SaveImaged,
        ScaleIntensityRanged,
        Spacingd,
    )

    before = Compose([
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        Spacingd("image", pixdim=SPACING, mode="bilinear"),
        ScaleIntensityRanged("image", LOW, HIGH, 0, 1, clip=True),
        EnsureTyped("image"),
    ])  # fmt: skip
    net = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.to(device)

    def infer(images: list[Path], out: Path) -> None:
        after = Compose([
            Activationsd("pred", softmax=True),
            Invertd("pred", before, "image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged("pred", output_dir=str(out), output_dtype=np.float32, output_postfix="trans", print_log=False),
        ])  # fmt: skip
        data = Dataset([{"image": str(image)} for image in images], before)
        SupervisedEvaluator(
            device=torch.device(device),
            val_data_loader=DataLoader(data, batch_size=1, num_workers=4),
            network=net,
            amp=device != "cpu",
            inferer=SlidingWindowInferer(ROI, BATCH, OVERLAP),
            postprocessing=after,
            val_handlers=[StatsHandler(iteration_log=False)],
        ).run()

    return infer


def open_voxflow(models: Path, plan: str, device: str) -> Infer:
    """Our default, or the peer's windows and its way back through probabilities."""
    from voxflow.engines import open_engine
    from voxflow.inference import InferenceCase, InferOptions, infer_cases

    options: dict[str, Any] = {"overlays": 0}
    if plan == "same":
        options |= {"plan": "windows", "back": "probabilities", "blend": "constant"}
    engine = open_engine(models, device=device)

    def infer(images: list[Path], out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        cases = [InferenceCase(image.name.partition(".")[0], (image,)) for image in images]
        result = infer_cases(engine, cases, out, InferOptions.model_validate(options))
        assert result.metrics["cases"] == len(cases), result.failures.rows

    return infer


def prepare(folder: Path, image: Path, slices: int | None) -> Path:
    """Write weights, the exported model, and the image to infer on; returns the image."""
    import torch

    from voxflow.engines import write_onnx, write_openvino, write_torchscript
    from voxflow.spec import ModelSpec, TransformSpec
    from voxflow.volumes import read_volume, resample, target_geometry, write_volume

    net = network()
    torch.save(net.state_dict(), folder / "weights.pt")
    scale = TransformSpec(
        name="ScaleIntensityRange",
        args={"fields": ["image"], "a_min": LOW, "a_max": HIGH, "b_min": 0.0, "b_max": 1.0, "clip": True},
    )
    spec = ModelSpec(
        task="segmentation",
        class_names=("background", "spleen"),
        activation="softmax",
        spacing_mm=SPACING,
        orientation="RAS",
        extent="centres",
        preprocess=(scale,),
        window=ROI,
        divisor=16,
        overlap=OVERLAP,
        modality="CT",
    )
    models = folder / "models"
    models.mkdir()
    write_onnx(net, spec, models / "model.onnx", 18)
    write_openvino(models / "model.onnx", spec, models / "model.xml", fp16_weights=False)
    write_torchscript(net, spec, models / "model.ts")
    (models / "model.onnx").unlink()
    if slices is None:
        return image
    volume = read_volume(image)
    spacing = (*volume.geometry.spacing[:2], volume.geometry.extent[2] / slices)
    grown = folder / "grown.nii.gz"
    write_volume(grown, resample(volume, target_geometry(volume.geometry, spacing), "linear"))
    return grown


def agreement(first: Path, second: Path) -> float:
    """Share of voxels in which two masks agree."""
    from voxflow.volumes import read_volume

    a, b = (read_volume(next(path.rglob("*.nii.gz"))).array for path in (first, second))
    return float(np.mean(a == b))


def compare(folder: Path, images: list[Path], rounds: int, device: str) -> None:
    """Run all sides in turn and print figures and ratios; of several cases also what one more takes."""
    single = run_sides(folder, images[:1], rounds, device)
    loaded = {side: time_loaded(folder, images[0], side, device) for side in SIDES}
    for side in SIDES:
        figures(side, single[side])
        print(f"figure loaded_{side} {loaded[side]:.3f} s")
    for side, label in (("default", "default"), ("same", "same-window")):
        print(f"figure {label}_agreement {agreement(folder / 'monai', folder / side):.6f} share")
        print(f"ratio {label} {ratio(single['monai'], single[side], 'wall'):.2f}")
        print(f"ratio {label}_cpu {ratio(single['monai'], single[side], 'cpu'):.2f}")
        print(f"ratio {label}_memory {ratio(single['monai'], single[side], 'memory'):.2f}")
        print(f"ratio {label}_loaded {loaded['monai'] / max(loaded[side], 1e-3):.2f}")
    if len(images) == 1:
        return
    queue = run_sides(folder, images, rounds, device)
    seconds = {side: (best(queue[side]) - best(single[side])) / (len(images) - 1) for side in SIDES}
    for side in SIDES:
        figures(f"queue_{side}", queue[side])
        print(f"figure one_more_{side} {seconds[side]:.3f} s")
    for side, label in (("default", "default"), ("same", "same-window")):
        print(f"ratio queue_{label} {ratio(queue['monai'], queue[side], 'wall'):.2f}")
        print(f"ratio one_more_{label} {seconds['monai'] / max(seconds[side], 1e-3):.2f}")


def best(runs: list[Run]) -> float:
    """The least time of several runs, in seconds: what else the machine did only adds to it."""
    return min(run.wall for run in runs)


def run_sides(folder: Path, images: list[Path], rounds: int, device: str) -> dict[str, list[Run]]:
    """Run every side on some cases, in turn, as processes of their own."""
    import shutil

    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            shutil.rmtree(folder / side, ignore_errors=True)
            command = [*name_side(folder, images[0], side, device), "--cases", str(len(images))]
            runs[side].append(measure(command))
    return runs


def name_side(folder: Path, image: Path, side: str, device: str) -> list[str]:
    """The command that is one of the sides."""
    places = ["--folder", str(folder), "--image", str(image)]
    return [sys.executable, "-m", "benchmarks.infer", "--side", side, "--device", device, *places]


def time_loaded(folder: Path, image: Path, side: str, device: str) -> float:
    """Seconds of one case in a process that has done it once before: model loaded, kernels chosen, engines compared."""
    command = [*name_side(folder, image, side, device), "--loaded"]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def copy_cases(image: Path, folder: Path, count: int) -> list[Path]:
    """Give one image several names, one a case."""
    folder.mkdir(exist_ok=True)
    copies = [folder / f"case{number}.nii.gz" for number in range(count)]
    for copy in copies:
        if not copy.exists():
            copy.symlink_to(image.resolve())
    return copies


def main() -> None:
    """Prepare and compare, or be one of the sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="a CT volume")
    parser.add_argument("--slices", type=int, help="resample it to so many slices first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--cases", type=int, default=1, help="how many cases a queue holds")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("monai", "default", "same"), help=argparse.SUPPRESS)
    parser.add_argument("--loaded", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder, side = arguments.folder, arguments.side
    if side is None:
        with tempfile.TemporaryDirectory() as temporary:
            image = prepare(Path(temporary), arguments.image, arguments.slices)
            print(f"device {name_device(arguments.device)}")
            images = copy_cases(image, Path(temporary) / "cases", arguments.cases)
            compare(Path(temporary), images, arguments.rounds, arguments.device)
        return
    images = copy_cases(arguments.image, arguments.image.parent, arguments.cases)
    if side == "monai":
        infer = open_monai(folder / "weights.pt", arguments.device)
    else:
        infer = open_voxflow(folder / "models", side, arguments.device)
    infer(images, folder / side)
    if arguments.loaded:
        begin = time.perf_counter()
        infer(images, folder / side)
        print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
