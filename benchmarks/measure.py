"""Measures whole processes: wall time, CPU time and peak memory, children included."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_S = 0.01
SAMPLE_SHARE = 0.02  # of a core: the kernel walks all pages to tell a process's share of them
MB = 1e6


@dataclass(frozen=True)
class Run:
    """One run of one command.

    Attributes:
        wall, cpu: seconds, CPU of all processes together.
        memory: peak of the sum over all processes at one time, bytes (PSS, so that shared pages count once).
    """

    wall: float
    cpu: float
    memory: float


def measure(command: Sequence[str]) -> Run:
    """Run a command to its end; a failure is an error that shows what the command said."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output.decode()[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, float(peak[0]))


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    try:
        parent = psutil.Process(process.pid)
        while process.returncode is None and parent.status() != psutil.STATUS_ZOMBIE:
            begin = time.perf_counter()
            peak[0] = max(peak[0], sum(_resident(member) for member in [parent, *parent.children(recursive=True)]))
            time.sleep(max(SAMPLE_S, (time.perf_counter() - begin) / SAMPLE_SHARE))
    except psutil.NoSuchProcess:
        return


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def name_device(device: str) -> str:
    """The card's name, which a figure is worth nothing without; on a processor "cpu"."""
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def figures(name: str, runs: Sequence[Run]) -> None:
    """Print the median of every figure, and the spread of the wall time."""
    walls = [run.wall for run in runs]
    print(f"figure {name}_wall {statistics.median(walls):.2f} s")
    print(f"figure {name}_wall_least {min(walls):.2f} s")
    print(f"figure {name}_wall_most {max(walls):.2f} s")
    print(f"figure {name}_cpu {statistics.median(run.cpu for run in runs):.2f} s")
    print(f"figure {name}_memory {statistics.median(run.memory for run in runs) / MB:.0f} MB")


def ratio(theirs: Sequence[Run], ours: Sequence[Run], figure: str) -> float:
    """Median over the rounds of theirs / ours: above 1, we are ahead."""
    pairs = zip(theirs, ours, strict=True)
    return float(statistics.median(getattr(first, figure) / getattr(second, figure) for first, second in pairs))
