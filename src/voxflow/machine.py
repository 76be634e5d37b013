"""What the machine offers: cores, memory and GPUs, asked in one place and, where there is no GPU, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

GB = 1e9
# Where a container's bound on memory stands, in bytes: control groups of version 2 and of version 1.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_FORMAT = "--format=csv,noheader,nounits"
# Devices of the drivers that torch computes through: NVIDIA's, the same on Jetson and below WSL, AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


class Machine(BaseModel):
    """What a machine offers to a training.

    Attributes:
        cores: how many this process may use.
        memory_gb: memory of the machine, or what its container may use, in 10⁹ bytes.
        gpu: name of the first GPU; empty: none.
        gpu_memory_gb: memory of that GPU, in 10⁹ bytes.

    Example:
        >>> Machine(cores=2, memory_gb=16).line
        '2 cores, 16 GB of memory, no GPU'
        >>> Machine(cores=16, memory_gb=128, gpu="NVIDIA H100", gpu_memory_gb=85.5).line
        '16 cores, 128 GB of memory, NVIDIA H100 with 86 GB'
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
    """Look at this machine.

    The GPU is asked for with ``nvidia-smi``, the driver's own program, so that torch need not be imported.
    """
    gpu, memory = _read_gpu()
    return Machine(cores=count_cores(), memory_gb=round(_memory_bytes() / GB, 1), gpu=gpu, gpu_memory_gb=memory)


def read_gpu_driver() -> str:
    """Read the version of the GPU's driver; empty where there is none."""
    return _query_gpu("driver_version")


def count_cores() -> int:
    """Count the cores that this process may use.

    They may be fewer than the machine has: a scheduler or a container binds a process to some of them.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Tell whether torch can use a GPU here.

    torch, which takes a second to import, is asked only where a GPU's driver is there.
    """
    # Windows has no such device files.
    if os.name != "nt" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


def _memory_bytes() -> int:
    """A container's limit where it is lower than what the machine has."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for name in _MEMORY_LIMITS:
        path = Path(name)
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _read_gpu() -> tuple[str, float]:
    """Name and GB of the first GPU; ("", 0) where there is none."""
    try:
        name, megabytes = _query_gpu("name,memory.total").rsplit(",", 1)
        return name.strip(), round(float(megabytes) * 1.048576e6 / GB, 1)
    except ValueError:
        return "", 0.0


def _query_gpu(fields: str) -> str:
    """What the driver's program says of the first GPU; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, f"--query-gpu={fields}", _FORMAT]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ""
    return lines[0].strip() if lines else ""
