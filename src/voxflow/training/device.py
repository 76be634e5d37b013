"""Owns what training computes on: device, precision, threads, seeds."""

from __future__ import annotations

import logging
import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.offline import silence_telemetry

if TYPE_CHECKING:
    from voxflow.config import Determinism
    from voxflow.training.options import TrainOptions

FABRIC_PRECISION = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """Let waiting threads sleep instead of spin; it must be said before torch is imported.

    Measured with two trainings on two cores: spinning threads hold up the ones that have work, and a step takes
    twice as long. Alone on the machine the difference is lost in the noise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def choose_precision(options: TrainOptions, use_amp: bool | None) -> str:
    """Return "bf16", "fp16" or "fp32".

    "auto" means bfloat16 where the processor has instructions for it (avx512_bf16, AMX, a GPU since Ampere):
    without them it is slower than float32. A configuration that says ``use_amp: false`` gets float32.
    """
    import torch

    if options.precision != "auto":
        return options.precision
    if use_amp is False:
        return "fp32"
    if options.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_bf16 else "fp32"


def open_fabric(options: TrainOptions, precision: str) -> Any:
    """Start lightning-fabric on one device."""
    import torch

    silence_telemetry()
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision on stderr
    torch.set_num_threads(options.threads or cpu_count())
    return Fabric(accelerator=options.accelerator, devices=1, precision=FABRIC_PRECISION[precision])


def seed_everything(seed: int, determinism: Determinism) -> int:
    """Seed Python, NumPy and torch; return the seed that batches are drawn with.

    Clara names one seed a library; ``tf_seed`` was the network's and so is torch's here.
    """
    import torch

    random.seed(determinism.python_seed if determinism.python_seed is not None else seed)
    np.random.seed(seed if determinism.numpy_seed is None else determinism.numpy_seed)
    torch.manual_seed(seed if determinism.tf_seed is None else determinism.tf_seed)
    return seed if determinism.random_seed is None else determinism.random_seed
