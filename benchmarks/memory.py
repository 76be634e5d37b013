"""Measure what inference on a CT of 512 × 512 × 1000 voxels takes, read to written, with 2 classes and with 100.

The network's grid is the image's own, or a coarser one from which the answer comes back. The engine is a stand-in that
answers at once, with logits of the size that a network's would have, so that what is measured is all that lies around a
network, and its activations are what ``bytes_per_voxel`` says of it.

python -m benchmarks.memory [--slices 1000] [--memory-mb 6144]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.measure import figures, measure
from voxflow.engines import Engine

Spacing = tuple[float, float, float]

WINDOW, BYTES_PER_VOXEL = (96, 96, 96), 384
COARSER: Spacing = (1.0, 1.0, 1.5)


class Stand(Engine):
    """An engine that finds the last of its classes wherever the image is bright."""

    name = "torch"

    def __init__(self, classes: int, *, is_local: bool, spacing: Spacing | None) -> None:
        from voxflow.spec import ModelSpec, TransformSpec

        scale = {"fields": ["image"], "a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}
        self.is_local = is_local
        self.spec = ModelSpec(
            task="segmentation",
            class_names=("background", *(f"organ {n}" for n in range(1, classes))),
            activation="softmax",
            spacing_mm=spacing,
            preprocess=(TransformSpec(name="ScaleIntensityRange", args=scale),),
            window=WINDOW,
            divisor=16,
        )

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Logits (1, class, i, j, k), and as much memory touched as the activations would take."""
        activations = np.zeros(batch[0, 0].size * BYTES_PER_VOXEL, dtype=np.uint8)
        activations[:: 1 << 12] = 1
        del activations
        logits = np.full((1, self.spec.out_channels, *batch.shape[2:]), -1, dtype=np.float32)
        logits[:, 0] = 0
        np.subtract(batch[:, 0], 0.5, out=logits[:, -1])
        return logits


def write_image(path: Path, slices: int) -> None:
    """A CT as large as they come, its voxels as scanners store them."""
    from voxflow.geometry import Geometry
    from voxflow.volumes import Volume, write_volume

    plane = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 1), dtype=np.int16)
    voxels = np.broadcast_to(plane, (512, 512, slices))
    write_volume(path, Volume(voxels, Geometry.from_parts(voxels.shape, (0.8, 0.8, 1.0))))


def infer(image: Path, out: Path, classes: int, plan: str, memory_mb: int) -> None:
    """One side: read, infer, write."""
    from voxflow.inference import InferenceCase, InferOptions, infer_cases

    values = {"overlays": 0, "memory_mb": memory_mb, "bytes_per_voxel": BYTES_PER_VOXEL}
    engine = Stand(classes, is_local=plan == "local", spacing=COARSER if plan == "coarser" else None)
    result = infer_cases(engine, [InferenceCase("ct", (image,))], out, InferOptions.model_validate(values))
    assert result.metrics["cases"] == 1, result.failures.rows


def main() -> None:
    """Measure every side, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--memory-mb", type=int, default=6144, help="the budget of one volume")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        folder, classes, plan = arguments.side
        with tempfile.TemporaryDirectory() as out:
            infer(Path(folder) / "ct.nii", Path(out), int(classes), plan, arguments.memory_mb)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder) / "ct.nii", arguments.slices)
        for classes, plan in product((2, 100), ("local", "windows", "coarser")):
            command = [
                sys.executable,
                "-m",
                "benchmarks.memory",
                "--memory-mb",
                str(arguments.memory_mb),
                "--side",
                folder,
            ]
            figures(f"{plan}_{classes}_classes", [measure([*command, str(classes), plan])])


if __name__ == "__main__":
    main()
