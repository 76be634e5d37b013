"""What the machine offers: cores, memory and GPUs, asked in one place and, where there is no GPU, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from voxflow.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

GB = 1e9
# Where a container's bound on memory stands, in bytes: control groups of version 2 and of version 1.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_FORMAT = "--format=csv,noheader,nounits"
# Devices of the drivers that torch computes through: NVIDIA's, the same on Jetson and below WSL, AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
# The device that was asked for; None: the first GPU where there is one, else the processor.
_DEVICE: ContextVar[str | None] = ContextVar("device", default=None)
# How libraries word it that a GPU has no memory left; TorchScript's interpreter turns torch's own error into its text.
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "FailedToAllocate")


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


def list_gpus() -> tuple[str, ...]:
    """List the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; torch is not imported.

    A process that is started with one of them there sees that one alone.
    """
    if not _has_gpu_driver():
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = _query_gpus("uuid") if visible is None else visible.split(",")
    return tuple(name.strip() for name in names if name.strip() not in ("", "-1"))


def count_cores() -> int:
    """Count the cores that this process may use.

    They may be fewer than the machine has: a scheduler or a container binds a process to some of them.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Tell whether torch can use a GPU here.

    torch, which takes a second to import, is asked only where a GPU's driver is there, and the processor was not asked
    for by :func:`use_device`.
    """
    if _DEVICE.get() == "cpu":
        return False
    if not _has_gpu_driver():
        return False
    import torch

    return torch.cuda.is_available()


@contextmanager
def use_device(device: str | None) -> Iterator[None]:
    """Let models that are opened within the block compute on one device.

    Args:
        device: "cpu", "cuda", or "cuda:1" for the second GPU; None: what was chosen outside of the block, else the
            first GPU where there is one.

    Raises:
        MissingDependencyError: there is no such GPU.
    """
    before = _DEVICE.set(device or _DEVICE.get())
    try:
        if device not in (None, "cpu"):
            _require_gpu(str(device))
        yield
    finally:
        _DEVICE.reset(before)


def _require_gpu(device: str) -> None:
    if not has_gpu():
        raise MissingDependencyError(f"device: {device}: torch sees no NVIDIA GPU")
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        last = f" to cuda:{count - 1}" if count > 1 else ""
        raise MissingDependencyError(f"device: {device}: there is no such GPU; torch sees cuda:0{last}")


def find_gpu() -> str:
    """Name the GPU that a model would compute on, as torch does, such as "cuda" or "cuda:1"; empty: there is none."""
    return (_DEVICE.get() or "cuda") if has_gpu() else ""


def explain_no_gpu() -> str | None:
    """Say why no model can compute on a GPU here; None where one can."""
    if has_gpu():
        return None
    return "the device is cpu" if _DEVICE.get() == "cpu" else "torch sees no NVIDIA GPU"


def read_gpu_name(device: str = "") -> str:
    """Read the name of a GPU, such as "NVIDIA H100 80GB HBM3".

    Args:
        device: such as "cuda:1"; empty: the one that :func:`find_gpu` names.
    """
    import torch

    return str(torch.cuda.get_device_name(device or find_gpu() or None))


def release_gpu_memory(error: RuntimeError) -> bool:
    """Give back what torch holds of a GPU's memory after an allocation failed.

    Returns:
        Whether it was for want of memory.
    """
    torch = sys.modules.get("torch")
    if torch is None or not (
        isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
    ):
        return False
    # What the failed attempt held hangs on the frames of its traceback.
    error.__traceback__ = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def _has_gpu_driver() -> bool:
    # Windows has no such device files.
    return os.name == "nt" or any(Path(device).exists() for device in _GPU_DEVICES)


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
        memory = round(float(megabytes) * 1.048576e6 / GB, 1)
    except ValueError:
        return "", 0.0
    return (name.strip(), memory) if isfinite(memory) and memory > 0 else ("", 0.0)


def _query_gpu(fields: str) -> str:
    """What the driver's program says of the first GPU; empty where there is none."""
    return next((line.strip() for line in _query_gpus(fields)), "")


def _query_gpus(fields: str) -> list[str]:
    """What the driver's program says of each GPU, a line each."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={fields}", _FORMAT]
    try:
        output = subprocess.run(
            query, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return output.splitlines()
