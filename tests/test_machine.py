"""What the machine offers is read in one place, and torch is left alone where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from voxflow import machine
from voxflow.machine import count_cores, list_gpus, read_gpu_driver, read_machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from voxflow.machine import count_cores; "
    )
    result = subprocess.run([sys.executable, "-c", code + "print(count_cores())"], capture_output=True, check=True)
    assert int(result.stdout) == 1
    assert count_cores() == len(os.sched_getaffinity(0))


def test_the_gpu_is_the_first_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA L4, 23034'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = read_machine()
    assert (machine.gpu, machine.gpu_memory_gb) == ("NVIDIA H100 80GB HBM3", 85.5)
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert (read_machine().gpu, read_machine().gpu_memory_gb) == ("", 0)


@pytest.mark.parametrize(
    "answer", ["NVIDIA GB10, [N/A]", "nan", "a, nan", "a, inf", "a, -1", "a, 0", "", r"\377\376, 1x"]
)
def test_nonsense_of_the_driver_counts_as_no_gpu(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (read_machine().gpu, read_machine().gpu_memory_gb) == ("", 0)
    assert isinstance(read_gpu_driver(), str)


def test_gpus_are_listed_as_a_process_is_shown_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1a\necho GPU-2b\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list_gpus() == ()
    monkeypatch.setattr(machine, "_GPU_DEVICES", ("/dev/null",))
    assert list_gpus() == ("GPU-1a", "GPU-2b")
    for visible, expected in {"1, 3": ("1", "3"), "": (), "-1": (), "GPU-2b": ("GPU-2b",)}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert list_gpus() == expected
    program.write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert list_gpus() == ()


def test_without_a_drivers_device_torch_is_not_imported() -> None:
    code = "import sys; from voxflow import machine; machine._GPU_DEVICES = (); "
    code += "sys.exit(machine.has_gpu() or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
