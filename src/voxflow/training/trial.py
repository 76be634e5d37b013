"""Tries a training for a few steps, to measure its time, memory and disk before the real one."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from voxflow.tracking import load_mlflow
from voxflow.training.device import count_threads, share_cores, start_device
from voxflow.training.device_batches import place_batches
from voxflow.training.distributed import World
from voxflow.training.loop import TrainingLoop
from voxflow.training.session import plan_training_data, prepare_data
from voxflow.training.validation import validate

if TYPE_CHECKING:
    from collections.abc import Generator

    from voxflow.config import Workflow
    from voxflow.datalist import Case, Datalist
    from voxflow.training.data import Batch, Batches
    from voxflow.training.options import DataFacts, TrainOptions
    from voxflow.training.store import CachedStore

WARM_UP = 2  # steps: memory is allocated and kernels are chosen
CASES = 4  # prepared for the trial, and found in the cache by the training
JUDGED = 2  # of the cases to validate on, the largest ones
ROUNDS = 2  # of steps and validation: the memory of one is only partly used again by the other
# Trainings of one kind held up to a tenth more or less than each other: their memory falls into pieces.
SPARE = 1.2
GB = 1e9


@dataclass(frozen=True)
class Trial:
    """What a few steps of a training took.

    Attributes:
        step_seconds: median over the steps, the wait for a batch included.
        steps: number of steps that were timed.
        steps_an_epoch: batches of the whole datalist.
        cache_gb: disk space of all cases to learn from and to validate on, by the size of those that were prepared.
        memory_gb: the most that this process held while it trained and validated, and a fifth, since longer trainings
            may hold more.
        gpu_memory_gb: the most that torch held there, and the cases of the whole datalist that find room; 0 without a
            GPU.
        precision: "bf16", "fp16" or "fp32", in which the network was computed.
        parameters: number of the network's weights.
    """

    step_seconds: float
    steps: int
    steps_an_epoch: int
    cache_gb: float
    memory_gb: float
    gpu_memory_gb: float
    precision: str
    parameters: int

    @property
    def epoch_seconds(self) -> float:
        """Seconds of one epoch's steps, without validation."""
        return self.step_seconds * self.steps_an_epoch


def try_steps(
    workflow: Workflow, datalist: Datalist, options: TrainOptions, *, facts: DataFacts, steps: int = 5
) -> Trial:
    """Train a few steps on a few of the cases, and validate; nothing is kept but those cases in the cache.

    Args:
        workflow: the checked configuration.
        datalist: all cases.
        options: as for the training itself.
        facts: class names and grid of the data.
        steps: number of steps to time, after two that warm up.

    Raises:
        ConfigError: the workflow does not fit the data.
        DataError: cases are missing or can't be used.
    """
    share_cores()
    load_mlflow()
    plan, training, validation = plan_training_data(workflow, datalist, facts)
    (fabric, precision), world = start_device(plan, options), World()
    on_gpu = fabric.device.type == "cuda"
    trial_cases = training[: max(CASES, plan.train_pipeline.cases_per_step)]
    judged = sorted(validation, key=lambda case: sum(path.stat().st_size for path in case.image))[-JUDGED:]
    batches, validation_store = prepare_data(plan, (trial_cases, judged), options, world, seed=0)
    batches = place_batches(batches, options, fabric.device, count_threads(options))
    with tempfile.TemporaryDirectory() as out:
        loop = TrainingLoop(
            plan,
            options,
            fabric,
            world,
            batches=batches,
            validation_store=validation_store,
            out=Path(out),
            recorder=None,
            run={},
        )
        times = _time_steps(loop, batches, steps)
        for _ in range(ROUNDS):
            if len(validation_store):
                validate(loop.saved_network, validation_store, plan, fabric, counts_on_device=on_gpu)
            _time_steps(loop, batches, 0)
    cases_per_step = plan.train_pipeline.cases_per_step
    return Trial(
        step_seconds=statistics.median(times),
        steps=len(times),
        steps_an_epoch=-(-len(plan.train_pipeline.window(len(training), 1)) // cases_per_step),
        cache_gb=(_forecast_bytes(batches.store, training) + _forecast_bytes(validation_store, validation)) / GB,  # type: ignore[arg-type]
        memory_gb=SPARE * _measure_peak_memory() / GB,
        gpu_memory_gb=_measure_gpu_memory(batches, len(training)) / GB if on_gpu else 0.0,
        precision=precision,
        parameters=sum(parameter.numel() for parameter in loop.bare_network.parameters()),
    )


def _forecast_bytes(store: CachedStore, cases: list[Case]) -> float:
    """The size on disk of all cases, by that of those that are prepared."""
    files = [path.stat().st_size for path in store.paths]
    return statistics.fmean(files) * len(cases) if files else 0.0


def _measure_gpu_memory(batches: Batches, count: int) -> int:
    """The most bytes that torch held of a GPU's memory, and what the cases will take that were not tried."""
    import torch

    peak = torch.cuda.max_memory_reserved()
    cases = batches.augmenter.cases if batches.augmenter is not None else None
    return peak if cases is None else peak + cases.forecast_bytes(count) - cases.used_bytes


def _time_steps(loop: TrainingLoop, batches: Batches, steps: int) -> list[float]:
    import torch

    loop.bare_network.train()
    times: list[float] = []
    stream = _repeat_epochs(batches)
    last = time.perf_counter()
    for number in range(WARM_UP + steps):
        loop.step(1, [next(stream)])
        if loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number >= WARM_UP:
            times.append(now - last)
        last = now
    stream.close()
    return times


def _repeat_epochs(batches: Batches) -> Generator[Batch]:
    for epoch in itertools.count(1):
        yield from batches.iterate_epoch(epoch)


def _measure_peak_memory() -> int:
    """The most bytes that this process has held so far, or what it holds where nobody counts."""
    try:
        import resource
        import sys
    except ImportError:
        return int(psutil.Process().memory_info().rss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes on Linux.
    return int(peak if sys.platform == "darwin" else peak * 1024)
