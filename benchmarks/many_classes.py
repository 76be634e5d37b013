"""Measure inference with many classes on a large CT, on a GPU or a processor: time, memory, and the bound on it.

A U-Net as MONAI's spleen bundle has it, with random weights and one output for each class, on noise of a CT's size; the
network's grid is coarser, so that the probabilities of all classes are brought back. The model is loaded, and one pass
is done before the one that is timed.

python -m benchmarks.many_classes [--device cuda] [--size 512 512 400] [--classes 104] [--gpu-memory-mb 8000]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks.measure import MB, name_device

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACING = (0.8, 0.8, 1.0)
WINDOW = (96, 96, 96)


def prepare(folder: Path, classes: int, spacing_mm: float, size: tuple[int, int, int]) -> tuple[Path, Path]:
    """Write the model for torch and OpenVINO, and the image; returns the models' folder and the image."""
    import torch
    from monai.networks.nets import UNet

    from voxflow.engines import write_onnx, write_openvino, write_torchscript
    from voxflow.geometry import Geometry
    from voxflow.spec import ModelSpec, TransformSpec
    from voxflow.volumes import Volume, write_volume

    torch.manual_seed(0)
    net: torch.nn.Module = UNet(3, 1, classes, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    scale = {"fields": ["image"], "a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}
    spec = ModelSpec(
        task="segmentation",
        class_names=("background", *(f"organ {number}" for number in range(1, classes))),
        activation="softmax",
        spacing_mm=(spacing_mm,) * 3,
        orientation="RAS",
        preprocess=(TransformSpec(name="ScaleIntensityRange", args=scale),),
        window=WINDOW,
        divisor=16,
    )
    models = folder / "models"
    models.mkdir()
    write_torchscript(net.eval(), spec, models / "model.ts")
    write_onnx(net, spec, models / "model.onnx", 18)
    write_openvino(models / "model.onnx", spec, models / "model.xml", fp16_weights=False)
    plane = np.random.default_rng(0).integers(-200, 300, (*size[:2], 1), dtype=np.int16)
    image = folder / "ct.nii"
    write_volume(image, Volume(np.broadcast_to(plane, size), Geometry.from_parts(size, SPACING)))
    return models, image


@contextmanager
def watch_memory() -> Iterator[dict[str, float]]:
    """Measure by how much this process grows within the block, in MB, as "growth"."""
    process, ended, memory = psutil.Process(), threading.Event(), {"growth": 0.0}
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.02):
            memory["growth"] = max(memory["growth"], (process.memory_info().rss - before) / MB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def run(models: Path, image: Path, out: Path, arguments: argparse.Namespace) -> None:
    """Infer twice, and print what the second pass took."""
    from voxflow.engines import open_engine
    from voxflow.inference import InferenceCase, InferOptions, infer_cases

    values: dict[str, Any] = {"memory_mb": arguments.memory_mb, "gpu_memory_mb": arguments.gpu_memory_mb}
    options = InferOptions.model_validate(values | {"overlays": 0})
    engine = open_engine(models, device=arguments.device)
    on_gpu = arguments.device != "cpu"
    with watch_memory() as memory:
        for name in ("first", "loaded"):
            if on_gpu:
                import torch

                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            out.mkdir(exist_ok=True)
            begin = time.perf_counter()
            result = infer_cases(engine, [InferenceCase("ct", (image,))], out, options)
            print(f"figure {name} {time.perf_counter() - begin:.2f} s")
            assert result.metrics["cases"] == 1, result.failures.rows
    print(f"figure memory {memory['growth']:.0f} MB, bound of one image {arguments.memory_mb * 2**20 / MB:.0f} MB")
    if on_gpu:
        peak = torch.cuda.max_memory_reserved() / MB
        print(f"figure gpu_memory {peak:.0f} MB, bound of one image {arguments.gpu_memory_mb * 2**20 / MB:.0f} MB")
    print(f"engine {result.engine}")


def main() -> None:
    """Prepare and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--classes", type=int, default=104)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 400), help="voxels of the CT")
    parser.add_argument("--spacing-mm", type=float, default=1.5, help="of the network's grid")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--gpu-memory-mb", type=int, default=7600, help="MiB; of 8 GB the rest is CUDA's own")
    arguments = parser.parse_args()
    print(f"device {name_device(arguments.device)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models, image = prepare(folder, arguments.classes, arguments.spacing_mm, tuple(arguments.size))
        run(models, image, folder / "out", arguments)


if __name__ == "__main__":
    main()
