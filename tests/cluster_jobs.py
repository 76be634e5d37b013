"""What the workers of the tests' Dask clusters do, where their processes can import it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from voxflow.errors import DataError


def double(number: int) -> int:
    """Write a file, as a case does."""
    Path(f"out/{number}").write_text(str(os.getpid()))
    return 2 * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("three is wrong", path="three.nii", where="row 3")
    return double(number)


def name_gpu(number: int) -> str:
    """Which GPU a worker sees; the cases take a while, so that every worker gets one."""
    time.sleep(0.3)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def die_at_three(number: int) -> int:
    if number == 3:
        Path("out/.partial-half").write_text("a half")
        os._exit(1)
    return double(number)


def write_slowly(number: int) -> int:
    Path(f"out/begun-{number}").touch()
    time.sleep(1.5)
    Path(f"out/ended-{number}").touch()
    return number
