"""Measure how many small MR volumes a second go through: read, segmented, and written as NIfTI.

The network is that of the template ``segmentation_hippocampus --variant cpu`` (U-Net, 16 to 128 filters, instance
norm), with random but fixed weights unless a trained model.pt or a folder of exported models is given. The first
``--warm`` cases are not counted: an engine sets itself up for each size of image that it meets first.

python -m benchmarks.throughput --images FOLDER [--model MODEL] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxflow.engines import Engine

UNET = {
    "in_channels": 1,
    "num_classes": 3,
    "nf_enc": [16, 32, 64, 128],
    "residual_units": 2,
    "final_activation": "softmax",
}
WINDOW = (40, 56, 40)


def export_model_file(folder: Path, model: Path | None) -> Path:
    """A folder with the OpenVINO model."""
    import torch

    from voxflow.components import Component, build_network
    from voxflow.engines import TorchEngine, write_onnx, write_openvino
    from voxflow.spec import ModelSpec, TransformSpec

    if model is not None and model.suffix != ".pt":
        return model
    if model is not None:
        trained = TorchEngine(model)
        network, spec = trained.module.cpu(), trained.spec
    else:
        torch.manual_seed(0)
        network = build_network(Component(name="Unet", args=UNET)).eval()
        spec = ModelSpec(
            task="segmentation",
            class_names=("background", "head", "body"),
            activation="softmax",
            preprocess=(TransformSpec(name="NormalizeNonzeroIntensities", args={"fields": ["image"]}),),
            window=WINDOW,
            divisor=8,
        )
    write_onnx(network, spec, folder / "model.onnx", 18)
    write_openvino(folder / "model.onnx", spec, folder / "model.xml", fp16_weights=False)
    (folder / "model.onnx").unlink()
    return folder


def cases_a_second(engine: Engine, images: list[Path], warm: int, values: dict[str, object]) -> tuple[float, float]:
    """Cases a second of wall time, and of CPU time."""
    from voxflow.inference import InferenceCase, InferOptions, infer_cases

    options = InferOptions.model_validate(values)
    cases = [InferenceCase(path.name.removesuffix(".nii.gz"), (path,)) for path in images]
    with tempfile.TemporaryDirectory() as out:
        infer_cases(engine, cases[:warm], Path(out), options)
    with tempfile.TemporaryDirectory() as out:
        wall, cpu = time.perf_counter(), time.process_time()
        count = infer_cases(engine, cases, Path(out), options).metrics["cases"]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert count == len(cases)
    return count / wall, count / cpu


def main() -> None:
    """Measure and print."""
    from voxflow.engines import open_engine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder of .nii.gz volumes")
    parser.add_argument("--model", type=Path, help="a model.pt, or a folder of exported models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=10)
    arguments = parser.parse_args()
    images = sorted(arguments.images.glob("*.nii.gz"))
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(export_model_file(Path(folder), arguments.model))
        rates = [cases_a_second(engine, images, arguments.warm, {"overlays": 0}) for _ in range(arguments.rounds)]
    walls, cpus = zip(*rates, strict=True)
    print(f"figure hippocampus_cases_per_second {statistics.median(walls):.1f} cases/s")
    print(f"figure hippocampus_cases_per_second_least {min(walls):.1f} cases/s")
    print(f"figure hippocampus_cases_per_second_most {max(walls):.1f} cases/s")
    print(f"figure hippocampus_cases_per_cpu_second {statistics.median(cpus):.1f} cases/s")


if __name__ == "__main__":
    main()
