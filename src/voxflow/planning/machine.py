"""Owns what the machine offers to a training: cores, memory, a GPU; told without importing torch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from voxflow.volumes import worker_count

GB = 1e9
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


class Machine(BaseModel):
    """What there is.

    Attributes:
        cores: that this process may use.
        memory_gb: of the machine, or what its container may use.
        gpu: name of the first one; empty: none.
        gpu_memory_gb: of that one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: int
    memory_gb: float
    gpu: str = ""
    gpu_memory_gb: float = 0.0

    @property
    def line(self) -> str:
        """One line for a person."""
        gpu = f"{self.gpu} with {self.gpu_memory_gb:.0f} GB" if self.gpu else "no GPU"
        return f"{self.cores} cores, {self.memory_gb:.0f} GB of memory, {gpu}"


def read_machine() -> Machine:
    """Look at this machine."""
    gpu, memory = _gpu()
    return Machine(cores=worker_count(), memory_gb=round(_memory() / GB, 1), gpu=gpu, gpu_memory_gb=memory)


def _memory() -> int:
    """Bytes; a container's limit where it is lower than what the machine has."""
    limits = [int(psutil.virtual_memory().total)]
    for name in _LIMITS:
        path = Path(name)
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _gpu() -> tuple[str, float]:
    """Name and GB of the first GPU, as the driver's own program tells; ("", 0) where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "", 0.0
    try:
        told = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=20, check=True).stdout
        name, megabytes = told.strip().splitlines()[0].rsplit(",", 1)
        return name.strip(), round(float(megabytes) * 1.048576e6 / GB, 1)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return "", 0.0
