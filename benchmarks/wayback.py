"""Compare ways from a network's logits to labels on the image's own grid, of which both grids are a CT's.

One takes the strongest class and its nearest voxel; ours interpolates probabilities where classes meet; the peer,
SimpleITK, resamples every class's probabilities, as MONAI's Invertd does, and takes the strongest then. The logits are
smooth fields with borders between all classes.

python -m benchmarks.wayback [--classes 2 14 60] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from voxflow.geometry import Geometry
from voxflow.prediction import logits_to_labels, logits_to_probabilities
from voxflow.prediction.grids import resample_labels
from voxflow.prediction.native_grid import NativeGridRestorer
from voxflow.spec import ModelSpec
from voxflow.volumes import Volume, resample, target_geometry

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NATIVE = Geometry.from_parts((512, 512, 48), (0.8, 0.8, 5.0))
SPACING = (1.5, 1.5, 2.0)
# How far apart the fields' own values lie, in mm: about as large as organs are.
ORGAN_MM = 60.0


def logits_of(classes: int, grid: Geometry) -> NDArray[np.float32]:
    """Smooth fields (class, i, j, k); the first, the background's, is the strongest of half of the voxels."""
    random = np.random.default_rng(0)
    coarse = target_geometry(grid, ORGAN_MM)
    fields = [Volume(random.normal(size=coarse.size).astype(np.float32), coarse) for _ in range(classes)]
    logits = np.ascontiguousarray(np.stack([resample(field, grid, "bspline").array for field in fields]) * 8)
    competitors = logits[1:].max(axis=0) if classes > 1 else logits[0]
    logits[0] += np.median(competitors - logits[0])
    return logits


def by_labels(logits: NDArray[np.float32], grid: Geometry, spec: ModelSpec) -> NDArray[Any]:
    """The strongest class, and the nearest voxel."""
    return resample_labels(Volume(logits_to_labels(logits, spec), grid), NATIVE).array


def by_probabilities(logits: NDArray[np.float32], grid: Geometry, spec: ModelSpec) -> NDArray[Any]:
    """Probabilities, interpolated where classes meet."""
    mask = np.empty(NATIVE.size, dtype=np.uint8)
    _, block = NativeGridRestorer(grid, NATIVE, spec, 0, 1).block(slice(0, grid.size[1]))
    for box, labels in block.labels(slice(0, grid.size[0]), logits):
        mask[box] = labels
    return mask


def by_simpleitk(logits: NDArray[np.float32], grid: Geometry, spec: ModelSpec) -> NDArray[Any]:
    """Every class's probabilities, one after the other."""
    chances = logits_to_probabilities(logits, spec)
    reference = Volume(np.empty(NATIVE.size, dtype=np.uint8), NATIVE).to_sitk()
    best = np.full(NATIVE.size, -1, dtype=np.float32)
    mask = np.zeros(NATIVE.size, dtype=np.uint8)
    for value, probability in enumerate(chances):
        image = sitk.Resample(Volume(probability, grid).to_sitk(), reference, sitk.Transform(), sitk.sitkLinear)
        resampled = Volume.from_sitk(image).array
        np.copyto(mask, value, where=resampled > best)
        np.maximum(best, resampled, out=best)
    return mask


def main() -> None:
    """Time every way in turn, and print figures, ratios and how the masks agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 14, 60])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    grid = target_geometry(NATIVE, SPACING, "RAS")
    ways: dict[str, Callable[..., NDArray[Any]]] = {
        "simpleitk": by_simpleitk,
        "labels": by_labels,
        "probabilities": by_probabilities,
    }
    for classes in arguments.classes:
        spec = ModelSpec(
            task="segmentation", class_names=("background", *map(str, range(1, classes))), activation="softmax"
        )
        logits = logits_of(classes, grid)
        walls: dict[str, list[float]] = {method: [] for method in ways}
        masks = {}
        for _ in range(arguments.rounds):
            for method, run in ways.items():
                began = time.perf_counter()
                masks[method] = run(logits, grid, spec)
                walls[method].append(time.perf_counter() - began)
        for method, times in walls.items():
            print(f"figure {method}_{classes}_wall {statistics.median(times):.3f} s")
            print(f"figure {method}_{classes}_least {min(times):.3f} s")
            print(f"figure {method}_{classes}_most {max(times):.3f} s")
        agreement = np.mean(masks["probabilities"] == masks["simpleitk"])
        print(f"figure probabilities_{classes}_agreement {agreement:.6f} share")
        peer, ours = statistics.median(walls["simpleitk"]), statistics.median(walls["probabilities"])
        print(f"ratio probabilities_{classes} {peer / ours:.2f}")


if __name__ == "__main__":
    main()
