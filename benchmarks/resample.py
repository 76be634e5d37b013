"""Compare `voxflow.volumes.resampling` with MONAI's Spacing: a CT of 512×512×300 to 1 mm isotropic.

python -m benchmarks.resample [--slices 300] [--size 512] [--rounds 3]

Each side gets the same voxels, on the same grid, in a process of its own, and measures its call alone: starting Python
and importing libraries count for neither. Memory is what the call adds to the process at its peak.

MONAI keeps the centre of the first voxel and rounds the distance to the last one; Voxflow does so with
``extent: centres``, so that both fill the same points here. Voxels are compared where both interpolate; beyond the last
centre of the image (within half a voxel) both continue the border.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Run, figures, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxflow.geometry import Geometry

NOISE_HU = 20.0
SPACING_MM = (0.7, 0.7, 1.25)
TARGET_MM = 1.0
# Voxflow gives whole Hounsfield units back; the rest is float32 and MONAI's way through [-1, 1].
TOLERANCE_HU = 0.5 + 0.05
SIDES = ("monai", "monai_float32", "voxflow")


def write_ct(path: Path, slices: int, size: int) -> None:
    """Write a body with organs and noise, int16 HU, axes (i, j, k)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = np.select(
        [np.hypot(x, y - 0.4) < 0.1, np.hypot(x + 0.3, y) < 0.3, np.hypot(x, y) < 0.8], [600, 120, 40], -1000
    )
    voxels = np.empty((size, size, slices), dtype=np.int16)
    for k in range(slices):
        voxels[:, :, k] = np.rint(body * (1 - 0.1 * k / slices) + rng.normal(0, NOISE_HU, body.shape))
    np.save(path, voxels)


def grid_of(shape: tuple[int, ...]) -> Geometry:
    """Where the CT lies."""
    from voxflow.geometry import Geometry

    return Geometry.from_parts(shape, SPACING_MM, (-180, -180, 0))


def ours(voxels: NDArray[np.int16]) -> Callable[[], NDArray[Any]]:
    """Voxflow's call, ready to be measured."""
    import SimpleITK  # noqa: F401 - resampling takes its number of threads

    from voxflow.volumes import Volume, resample, target_geometry

    geometry = grid_of(voxels.shape)
    grid = target_geometry(geometry, TARGET_MM, extent="centres")
    fill = float(voxels.min())
    return lambda: resample(Volume(voxels, geometry), grid, fill=fill).array


def theirs(voxels: NDArray[np.int16], dtype: type) -> Callable[[], NDArray[Any]]:
    """MONAI's call, on the floats that its own reader gives; ``dtype`` is what it computes in, float64 by default."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    image = MetaTensor(
        torch.from_numpy(voxels.astype(np.float32)[None]), affine=torch.from_numpy(grid_of(voxels.shape).affine_ras)
    )
    spacing = Spacing((TARGET_MM,) * 3, mode="bilinear", padding_mode="border", align_corners=True, dtype=dtype)
    return lambda: np.asarray(spacing(image))[0]


def one_side(side: str, source: Path, target: Path) -> None:
    """Run one side's call, keep its voxels, and print what it took as JSON."""
    voxels = np.load(source)
    call = ours(voxels) if side == "voxflow" else theirs(voxels, np.float32 if "32" in side else np.float64)
    # The kernel's high-water mark starts anew from here.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak()
    wall, cpu = time.perf_counter(), _cpu()
    resampled = call()
    wall, cpu, memory = time.perf_counter() - wall, _cpu() - cpu, _peak() - before
    np.save(target, resampled)
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory}))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure_side(side: str, source: Path, target: Path) -> Run:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.resample", "--side", side, str(source), str(target)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(**json.loads(result.stdout.splitlines()[-1]))


def check_agreement(shape: tuple[int, ...], folder: Path) -> None:
    """Hold the voxels of both against each other, at the same points; a difference ends the benchmark."""
    ours, monai = np.load(folder / "voxflow.npy", mmap_mode="r"), np.load(folder / "monai.npy", mmap_mode="r")
    if ours.shape != monai.shape:
        raise SystemExit(f"resample: error: grids differ: {ours.shape} and {monai.shape}")
    inside = tuple(slice(0, int((n - 1) * mm / TARGET_MM) + 1) for n, mm in zip(shape, SPACING_MM, strict=True))
    apart = np.abs(ours[inside].astype(np.float32) - monai[inside])
    print(f"figure agreement_voxels {apart.size}")
    print(f"figure agreement_largest_difference {apart.max():.3f} HU")
    print(f"figure agreement_mean_difference {apart.mean():.3f} HU")
    if apart.max() > TOLERANCE_HU:
        raise SystemExit(f"resample: error: voxels differ by {apart.max():.2f} HU, more than {TOLERANCE_HU}")


def compare(folder: Path, slices: int, size: int, rounds: int) -> None:
    """Run all sides in turn, ``rounds`` times, compare their voxels and print figures and ratios."""
    source = folder / "ct.npy"
    write_ct(source, slices, size)
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            runs[side].append(measure_side(side, source, folder / f"{side}.npy"))
    check_agreement((size, size, slices), folder)
    for side in SIDES:
        figures(side, runs[side])
    for side in SIDES[:-1]:
        ending = side.removeprefix("monai")
        for figure in ("wall", "cpu", "memory"):
            ratios = [getattr(a, figure) / getattr(b, figure) for a, b in zip(runs[side], runs["voxflow"], strict=True)]
            print(f"ratio {figure}{ending} {ratio(runs[side], runs['voxflow'], figure):.2f}")
            spread = f"{min(ratios):.2f} {statistics.median(ratios):.2f} {max(ratios):.2f}"
            print(f"figure ratio_{figure}{ending}_spread {spread}")


def main() -> None:
    """Generate the CT, and compare; or, called by itself, run one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("--slices", 300), ("--size", 512), ("--rounds", 3)):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one_side(arguments.side[0], Path(arguments.side[1]), Path(arguments.side[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.slices, arguments.size, arguments.rounds)


if __name__ == "__main__":
    main()
