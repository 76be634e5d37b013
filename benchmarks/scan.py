"""Compare how long it takes to find the series of a folder of many DICOM files: Voxflow's scan, pydicom's and GDCM's.

Each side is a whole process that reads every header and sorts the files by series. GDCM is asked through SimpleITK, and
pydicom for the attributes that a series needs.

python -m benchmarks.scan [--files 50000] [--slices 100] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Run, figures, measure, ratio

SIDES = ("pydicom", "gdcm", "voxflow")
TAGS = [
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "PatientID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
]


def write_files(folder: Path, count: int, slices: int) -> None:
    """Write CT series of 16 × 16 pixels, ``slices`` files each."""
    from pydicom.uid import CTImageStorage

    from voxflow.synthetic import Person, new_dataset

    pixels = np.zeros((16, 16), np.uint16).tobytes()
    for number in range(count):
        series, k = divmod(number, slices)
        person = Person(series, 0, "BENCH")
        dataset = new_dataset(person, CTImageStorage, modality="CT", series="ct", instance=k + 1)
        dataset.FrameOfReferenceUID, dataset.ImageType = person.uid("frame"), ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-180, -180, float(k)], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 16, 16, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelData = pixels
        path = folder / f"series{series}" / f"I{k:04d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)


def scan_by_pydicom(folder: Path) -> int:
    """Count the series as a loop over pydicom does."""
    import pydicom

    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    headers = (pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS) for path in files)
    return len({str(header.SeriesInstanceUID) for header in headers})


def scan_by_gdcm(folder: Path) -> int:
    """Count the series as GDCM does."""
    import SimpleITK as sitk

    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    return sum(len(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))) for path in folders)


def scan_by_voxflow(folder: Path) -> int:
    """Count the volumes that Voxflow would make, as the first step of ``voxflow convert`` does."""
    from voxflow.dicom import ConvertOptions, group_headers, scan_folder

    return len(group_headers(scan_folder(folder).headers, ConvertOptions(pseudonym_key="key")))


def main() -> None:
    """Write the files, and compare; or, with ``--side``, scan once."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--files", 50_000), ("--slices", 100), ("--rounds", 3)):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="folder with the files; it is made and filled if it is not there")
    arguments = parser.parse_args()
    if arguments.side:
        scans = {"pydicom": scan_by_pydicom, "gdcm": scan_by_gdcm, "voxflow": scan_by_voxflow}
        print(scans[arguments.side](arguments.folder), "series")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not folder.is_dir() or not any(folder.iterdir()):
            write_files(folder, arguments.files, arguments.slices)
        base = [sys.executable, "-m", "benchmarks.scan", "--folder", str(folder), "--side"]
        runs: dict[str, list[Run]] = {side: [] for side in SIDES}
        for _ in range(arguments.rounds):
            for side in SIDES:
                runs[side].append(measure([*base, side]))
    for side in SIDES:
        figures(side, runs[side])
    for side in SIDES[:-1]:
        for figure in ("wall", "cpu"):
            print(f"ratio {side}_{figure} {ratio(runs[side], runs['voxflow'], figure):.2f}")


if __name__ == "__main__":
    main()
