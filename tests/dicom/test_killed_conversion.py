"""A worker of a conversion that is killed loses nothing; of a conversion that is killed, no process stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from pydicom.uid import JPEGLSLossless

from tests.dicom.hostile_frames import make_frame, make_object, make_picture, patch, shorts
from tests.dicom.objects import Series, save
from tests.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERIES, SLICES, WAIT_S = 6, 24, 60.0
PROGRAM = """
import sys
from pathlib import Path
from voxflow.dicom import ConvertOptions, convert_folder
if __name__ == "__main__":
    options = ConvertOptions(pseudonym_key="key", workers=2, mapping=False)
    convert_folder(Path(sys.argv[1]), Path(sys.argv[2]), options)
"""


def write_compressed_series(folder: Path, uid: str, *, is_hostile: bool = False) -> None:
    frame = make_frame(JPEGLSLossless)
    if is_hostile:
        frame = patch(b"\xff\xf7", 5, shorts(65535, 65535))(frame)
    for k, plain in enumerate(Series(np.stack([make_picture()] * SLICES), uid=uid, frame=f"{uid}.1").datasets()):
        dataset = make_object(JPEGLSLossless, frame)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
            setattr(dataset, keyword, plain[keyword].value)
        dataset.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID
        save(dataset, folder / uid / str(k))


def start(folder: Path) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *map(str, (folder / "program.py", folder / "in", folder / "out"))]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def find_children(process: int, word: str) -> list[psutil.Process]:
    children = psutil.Process(process).children(recursive=True)
    return [child for child in children if any(word in part for part in read_command(child))]


def read_command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def read_rows(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "out/conversion.csv")


@pytest.mark.parametrize("word", ["spawn_main", pytest.param("decoder_process", marks=pytest.mark.slow)])
def test_a_worker_or_decoder_that_is_killed_loses_nothing(tmp_path: Path, word: str) -> None:
    for number in range(SERIES):
        write_compressed_series(tmp_path / "in", f"1.2.{number + 1}")
    write_compressed_series(tmp_path / "in", "1.3", is_hostile=True)
    with start(tmp_path) as conversion:
        wait_until(lambda: find_children(conversion.pid, word))
        find_children(conversion.pid, word)[0].send_signal(signal.SIGKILL)
        output = conversion.communicate(timeout=WAIT_S)[1]
    assert conversion.returncode == 0, output
    rows = {row["series_uid"]: row for row in read_rows(tmp_path)}
    hostile = rows.pop("1.3")
    assert hostile["verdict"] == "quarantined"
    assert "65535 rows" in hostile["reason"]
    assert len(rows) == SERIES
    # A decoder costs the series that it was at, since nobody can tell whether a frame ended it.
    lost = [row for row in rows.values() if row["verdict"] != "converted"]
    assert len(lost) <= (word == "decoder_process")
    assert all("SIGKILL" in row["reason"] for row in lost)
    assert not list((tmp_path / "out").rglob(".partial-*"))


@pytest.mark.slow
def test_of_a_conversion_that_is_killed_no_process_stays(tmp_path: Path) -> None:
    for number in range(SERIES):
        write_compressed_series(tmp_path / "in", f"1.2.{number + 1}")
    with start(tmp_path) as conversion:
        wait_until(lambda: find_children(conversion.pid, "decoder_process"))
        children = psutil.Process(conversion.pid).children(recursive=True)
        conversion.kill()
    _, alive = psutil.wait_procs(children, timeout=WAIT_S)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
