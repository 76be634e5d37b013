"""Compare inference from a CT file to its mask file, as whole processes: the MONAI spleen bundle's, and ours.

The network is the bundle's (U-Net, 16 to 256 channels, batch norm) with random but fixed weights; both sides read the
same NIfTI, bring it to 1.5 × 1.5 × 2 mm, window it, run the network, and write the mask on the image's own grid.

python -m benchmarks.infer --image CT.nii.gz [--slices 300] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Run, figures, measure, ratio

if TYPE_CHECKING:
    import torch

ROI, OVERLAP, BATCH = (96, 96, 96), 0.5, 4
SPACING = (1.5, 1.5, 2.0)
LOW, HIGH = -57, 164


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


def infer_by_monai(image: Path, weights: Path, out: Path) -> None:
    """What the bundle's inference.json configures, on a CPU: its transforms, evaluator, workers and type of mask."""
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
    after = Compose([
        Activationsd("pred", softmax=True),
        Invertd("pred", before, "image", nearest_interp=False, to_tensor=True),
        AsDiscreted("pred", argmax=True),
        SaveImaged("pred", output_dir=str(out), output_dtype=np.float32, output_postfix="trans", print_log=False),
    ])  # fmt: skip
    net = UNet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    net.load_state_dict(torch.load(weights, weights_only=True))
    SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset([{"image": str(image)}], before), batch_size=1, num_workers=4),
        network=net,
        inferer=SlidingWindowInferer(ROI, BATCH, OVERLAP),
        postprocessing=after,
        val_handlers=[StatsHandler(iteration_log=False)],
    ).run()


def infer_by_voxflow(image: Path, models: Path, out: Path, plan: str) -> None:
    """Our default, or the peer's windows and its way back through probabilities."""
    from voxflow.engines import open_engine
    from voxflow.inference import InferenceCase, InferOptions, infer_cases

    options: dict[str, Any] = {"overlays": 0}
    if plan == "same":
        options |= {"plan": "windows", "back": "probabilities", "blend": "constant"}
    out.mkdir(parents=True)
    infer_cases(open_engine(models), [InferenceCase("ct", (image,))], out, InferOptions.model_validate(options))


def prepare(folder: Path, image: Path, slices: int | None) -> Path:
    """Write weights, the exported model, and the image to infer on; returns the image."""
    import torch

    from voxflow.engines import write_onnx, write_openvino
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


def compare(folder: Path, image: Path, rounds: int, name: str) -> None:
    """Run all sides in turn and print figures and ratios."""
    import shutil

    base = [sys.executable, "-m", "benchmarks.infer", "--image", str(image), "--folder", str(folder), "--side"]
    sides = ("monai", "default", "same")
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            shutil.rmtree(folder / side, ignore_errors=True)
            runs[side].append(measure([*base, side]))
    for side in sides:
        figures(f"{name}{side}", runs[side])
    for side, label in (("default", "default"), ("same", "same-window")):
        print(f"figure {name}{label}_agreement {agreement(folder / 'monai', folder / side):.6f} share")
        print(f"ratio {name}{label} {ratio(runs['monai'], runs[side], 'wall'):.2f}")
        print(f"ratio {name}{label}_cpu {ratio(runs['monai'], runs[side], 'cpu'):.2f}")
        print(f"ratio {name}{label}_memory {ratio(runs['monai'], runs[side], 'memory'):.2f}")


def main() -> None:
    """Prepare and compare, or be one of the sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="a CT volume")
    parser.add_argument("--slices", type=int, help="resample it to so many slices first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("monai", "default", "same"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "monai":
        infer_by_monai(arguments.image, arguments.folder / "weights.pt", arguments.folder / "monai")
    elif arguments.side:
        infer_by_voxflow(
            arguments.image, arguments.folder / "models", arguments.folder / arguments.side, arguments.side
        )
    else:
        with tempfile.TemporaryDirectory() as temporary:
            image = prepare(Path(temporary), arguments.image, arguments.slices)
            compare(Path(temporary), image, arguments.rounds, "")


if __name__ == "__main__":
    main()
