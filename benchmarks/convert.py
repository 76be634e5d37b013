"""Compare `voxflow convert` with dcm2niix, as whole processes, on CT series with realistic noise.

python -m benchmarks.convert [--series 8] [--slices 300] [--size 512] [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Run, figures, measure, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE_HU = 20.0


def write_series(folder: Path, number: int, slices: int, size: int) -> None:
    """Write a body with organs and noise, uncompressed, 16 bits stored as 12."""
    from pydicom.uid import CTImageStorage

    from voxflow.synthetic import Person, new_dataset

    rng = np.random.default_rng(number)
    body = _body(size)
    # Noise is drawn once, and shifted from slice to slice: drawing it takes longer than everything else.
    noise = rng.normal(0, NOISE_HU, (size * 2, size * 2)).astype(np.float32)
    person = Person(number, 0, "BENCH")
    for k in range(slices):
        row, column = rng.integers(0, size, 2)
        dataset = new_dataset(person, CTImageStorage, modality="CT", series="ct", instance=k + 1)
        dataset.FrameOfReferenceUID, dataset.ImageType = person.uid("frame"), ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-180, -180, float(k)], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = size, size, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        values = body * (1 - 0.1 * k / slices) + noise[row : row + size, column : column + size]
        dataset.PixelData = np.clip(np.rint(values), 0, 4095).astype("<u2").tobytes()
        path = folder / f"series{number}" / f"I{k:04d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)


def _body(size: int) -> NDArray[np.float32]:
    """Air at 24, a body at about 1,070, organs and bone in it."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size), 24.0, dtype=np.float32)
    for value, cx, cy, rx, ry in ((930, 0, 0, 0.85, 0.65), (1070, 0, 0, 0.8, 0.6), (1150, -0.3, 0, 0.3, 0.35),
                                  (1600, 0, 0.4, 0.1, 0.1), (1100, 0.35, 0.1, 0.2, 0.25)):  # fmt: skip
        image[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = value
    return image


def commands(source: Path, out: Path) -> dict[str, list[str]]:
    """The three sides, each with a folder of its own below ``out``."""
    dcm2niix = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if dcm2niix is None:
        raise SystemExit("convert: error: dcm2niix is not installed: pip install dcm2niix")
    sides = {"dcm2niix": [dcm2niix, "-z", "i", "-f", "%s_%j", "-o", str(out / "dcm2niix"), str(source)]}
    if shutil.which("pigz"):
        sides["pigz"] = [dcm2niix, "-z", "y", "-f", "%s_%j", "-o", str(out / "pigz"), str(source)]
    ours = [sys.executable, "-m", "voxflow.cli.main", "convert", "--force", str(source), str(out / "voxflow")]
    return {**sides, "voxflow": ours}


def bytes_written(folder: Path) -> int:
    """Size of the images."""
    return sum(path.stat().st_size for path in folder.rglob("*.nii.gz"))


def compare(out: Path, sides: dict[str, list[str]], rounds: int) -> None:
    """Run all sides in turn, ``rounds`` times, and print figures and ratios."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            shutil.rmtree(out / name, ignore_errors=True)
            if name != "voxflow":
                (out / name).mkdir(parents=True)
            runs[name].append(measure(command))
    sizes = {name: bytes_written(out / name) for name in sides}
    for name in sides:
        figures(name, runs[name])
        print(f"figure {name}_size {sizes[name] / 1e6:.1f} MB")
    for name in sides:
        ending = {"dcm2niix": "", "pigz": "_pigz"}.get(name)
        if ending is not None:
            for figure in ("wall", "cpu", "memory"):
                print(f"ratio {figure}{ending} {ratio(runs[name], runs['voxflow'], figure):.2f}")
            print(f"ratio size{ending} {sizes[name] / sizes['voxflow']:.3f}")


def main() -> None:
    """Generate the series, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--series", 8), ("--slices", 300), ("--size", 512), ("--rounds", 3)):
        parser.add_argument(flag, type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "dicom", Path(folder) / "out"
        for number in range(1, arguments.series + 1):
            write_series(source, number, arguments.slices, arguments.size)
        compare(out, commands(source, out), arguments.rounds)


if __name__ == "__main__":
    main()
