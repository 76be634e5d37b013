"""Broken files stop nothing, hang nothing, and never become a volume that is wrong without a word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.dicom.mutations import broken, objects
from tests.dicom.objects import Series, random_values, save
from tests.tables import read_table
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.volumes import read_volume

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ConvertOptions(pseudonym_key="key", workers=1)
LONGEST_SECONDS = 10.0
# The files of one folder: each holds one broken file for every so many whole ones.
FOLDERS_NORMAL, FOLDERS_SLOW, BROKEN_A_FOLDER = 50, 500, 4

WIDE = random_values((6, 36, 40)).clip(0).transpose(2, 1, 0) - 100
# The series that are broken: how their files' names start, and their voxels.
WHOLE = {"1.2.3": ("ct", random_values().clip(0).transpose(2, 1, 0) - 100), "1.2.4": ("pt", WIDE)}


def fuzz(tmp_path: Path, folders: range) -> None:
    """Convert folders of two series, a SEG and an RTSTRUCT of which some files are broken, beside a sound series."""
    whole = objects()
    for number in folders:
        rng = np.random.default_rng(number)
        source = tmp_path / f"in{number}"
        Series(random_values(seed=7), uid="1.2.99", frame="1.2.98", patient="sound").write(source / "sound")
        files = dict(whole)
        changes = {}
        for name in rng.choice(sorted(files), BROKEN_A_FOLDER, replace=False):
            changes[str(name)], files[str(name)] = broken(files[str(name)], rng)
        for name, data in files.items():
            (source / name).write_bytes(data)
        began = time.perf_counter()
        with warnings.catch_warnings():
            # Libraries say in warnings what the verdicts say in words.
            warnings.simplefilter("ignore")
            convert_folder(source, tmp_path / f"out{number}", OPTIONS)
        assert time.perf_counter() - began < LONGEST_SECONDS, f"folder {number}: {changes}"
        check(tmp_path / f"out{number}", changes, f"folder {number}: {changes}")


def check(out: Path, changes: dict[str, str], folder: str) -> None:
    """The sound series is converted; the others are whole and right in their grid, or have a verdict."""
    rows = read_table(out / "conversion.csv")
    sound = next(row for row in rows if row["series_uid"] == "1.2.99")
    assert sound["verdict"] == "converted", folder
    assert np.array_equal(volume_of(out, sound), random_values(seed=7).transpose(2, 1, 0) - 100), folder
    for row in rows:
        assert row["verdict"] in ("converted", "remedied") or row["reason"], folder
        if row["series_uid"] in WHOLE and row["size"] and row["modality"] not in ("CR", "DX"):
            check_volume(volume_of(out, row), row, changes, folder)


def check_volume(array: np.ndarray, row: dict[str, str], changes: dict[str, str], path: str) -> None:
    """Pixels that a flipped bit changed can't be known; slices in a wrong place would differ elsewhere, too."""
    start, expected = WHOLE[row["series_uid"]]
    assert np.isfinite(array).all(), path
    assert row["files"] == str(array.shape[2]), path
    if array.shape == expected.shape:
        wrong = (np.abs(array - expected) > 1e-3).any(axis=(0, 1)).sum()
        assert wrong <= sum(name.startswith(start) for name in changes), path


def volume_of(out: Path, row: dict[str, str]) -> np.ndarray:
    return read_volume(out / "images" / f"{row['case']}.nii.gz").array


def test_two_hundred_broken_files_stop_nothing(tmp_path: Path) -> None:
    fuzz(tmp_path, range(FOLDERS_NORMAL))


@pytest.mark.slow
def test_two_thousand_broken_files_stop_nothing(tmp_path: Path) -> None:
    fuzz(tmp_path, range(FOLDERS_NORMAL, FOLDERS_NORMAL + FOLDERS_SLOW))


SCAN = r"""
import re, sys
from pathlib import Path
from voxflow.dicom.scan import scan_folder
scan = scan_folder(Path(sys.argv[1]), 1)
# Not getrusage: its peak begins with that of the process that started this one.
peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(len(scan.headers), len(scan.other_files), int(peak_kb) // 1024)
"""


@pytest.mark.slow
def test_fifty_thousand_small_files_are_scanned_in_bounded_memory(tmp_path: Path) -> None:
    dataset = Series(random_values()[:1]).datasets()[0]
    data = save(dataset, tmp_path / "one").read_bytes()
    uid = str(dataset.SOPInstanceUID).encode()
    for number in range(50_000):
        if number % 500 == 0:
            (tmp_path / f"in/{number // 500}").mkdir(parents=True)
        name = data.replace(uid, uid[:-6] + f"{number + 100_000:06d}".encode())
        (tmp_path / f"in/{number // 500}/{number}").write_bytes(name if number % 10 else b"junk")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCAN, str(tmp_path / "in")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    headers, other_files, peak_mb = map(int, result.stdout.split())
    assert (headers, other_files) == (45_000, 5_000)
    assert peak_mb < 500
