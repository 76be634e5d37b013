"""Chooses the device, precision and number of threads of a training, and seeds the random generators."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import random
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.machine import count_cores, has_gpu
from voxflow.offline import silence_telemetry
from voxflow.progress import say
from voxflow.training.distributed import count_local_processes, count_processes

if TYPE_CHECKING:
    import torch

    from voxflow.config import Determinism
    from voxflow.training.options import TrainOptions
    from voxflow.training.plan import TrainingPlan

# From where on the gain of compiled steps exceeds the cost of compiling by far.
COMPILED_MINUTES, COMPILED_STEPS = 15.0, 10_000
FABRIC_PRECISION = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}


def share_cores() -> None:
    """Let waiting threads sleep instead of spin; it must be said before torch is imported.

    Measured with two trainings on two cores: spinning threads hold up the ones that have work, and a step takes
    twice as long. Alone on the machine the difference is lost in the noise.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# The numbers of these options in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def _keep_memory() -> None:
    """Let the C library keep memory that a step frees for the next step; other libraries than glibc are left alone.

    Else each large tensor is handed back to the kernel and asked for again, page by page and zeroed: measured on two
    cores, 14 % of the time of forward and backward.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


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


def start_device(plan: TrainingPlan, options: TrainOptions, *, multi_gpu: bool = False) -> tuple[Any, str]:
    """Start the device of a training.

    Args:
        plan: whether the configuration allows half precision, and whether all its images have one size.
        options: accelerator, precision, threads, time-out.
        multi_gpu: as for :func:`open_fabric`.

    Returns:
        lightning-fabric, and the precision: "bf16", "fp16" or "fp32".
    """
    precision = choose_precision(options, plan.workflow.globals.use_amp)
    if options.accelerator == "cpu" or not has_gpu():
        _keep_memory()
    fabric = open_fabric(options, precision, multi_gpu=multi_gpu)
    start_gpu(fabric.device, options, fixed_shapes=plan.has_fixed_shapes)
    return fabric, precision


def open_fabric(options: TrainOptions, precision: str, *, multi_gpu: bool = False) -> Any:
    """Start lightning-fabric: on one device, or as one of the processes that torchrun started.

    Args:
        options: accelerator, threads, time-out.
        precision: "bf16", "fp16" or "fp32".
        multi_gpu: what the configuration says; without torchrun a line tells how several devices are used.
    """
    import torch

    silence_telemetry()
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision on stderr
    torch.set_num_threads(count_threads(options))
    count, local_count = count_processes(), count_local_processes()
    arguments: dict[str, Any] = {"accelerator": options.accelerator, **_precision_arguments(options, precision)}
    if count == 1:
        if multi_gpu:
            say(_explain_multi_gpu())
        return Fabric(devices=1, **arguments)
    timeout = timedelta(minutes=options.peer_timeout_minutes)
    fabric = Fabric(
        devices=local_count, num_nodes=count // local_count, strategy=DDPStrategy(timeout=timeout), **arguments
    )
    fabric.launch()
    return fabric


def _precision_arguments(options: TrainOptions, precision: str) -> dict[str, Any]:
    """How fabric computes; on a CPU the answer stays in half precision, since the loss widens what it needs."""
    if precision == "fp32" or (options.accelerator != "cpu" and has_gpu()):
        return {"precision": FABRIC_PRECISION[precision]}
    from lightning_fabric.plugins import MixedPrecision

    class KeepOutputPrecision(MixedPrecision):  # type: ignore[misc]
        def convert_output(self, data: Any) -> Any:
            return data

    return {"plugins": [KeepOutputPrecision(FABRIC_PRECISION[precision], "cpu")]}


def pays_to_compile(options: TrainOptions, device: torch.device, steps: int, size: tuple[int, ...] | None) -> bool:
    """Tell whether a network is handed to torch.compile.

    Args:
        options: ``compile``, and for how long is trained. With "auto" it is compiled on a GPU if the training is long
            enough to win back the minute or two that this takes, and need not repeat itself bit for bit.
        device: that trains.
        steps: of the whole training, if no time ends it.
        size: of all images in training; None: they differ, and each would be compiled for.
    """
    if options.compile != "auto":
        return options.compile
    if device.type != "cuda" or options.deterministic or size is None or steps < COMPILED_STEPS:
        return False
    if options.max_minutes is not None and options.max_minutes < COMPILED_MINUTES:
        return False
    from torch.utils._triton import has_triton

    if not has_triton():
        return False
    import torch._dynamo

    # Unasked, it may fail without ending the training: the network then runs as it is.
    torch._dynamo.config.suppress_errors = True
    return True


def start_gpu(device: torch.device, options: TrainOptions, *, fixed_shapes: bool) -> None:
    """Start what a GPU's first step would wait for, in a thread, while cases are read: its context and its libraries.

    Args:
        device: on a processor nothing is done.
        options: whether all must repeat itself bit for bit, and whether the network may be compiled.
        fixed_shapes: cuDNN then tries several kernels for each, unless they must be the same each time.
    """
    if device.type != "cuda":
        return
    import torch

    torch.backends.cudnn.benchmark = fixed_shapes and not options.deterministic
    may_compile = options.compile is True or (options.compile == "auto" and not options.deterministic)

    def start() -> None:
        # Nothing here may end a training: what fails will fail again where it is needed.
        with contextlib.suppress(Exception):
            values = torch.ones(1, 1, 8, 8, 8, device=device)
            torch.nn.functional.conv3d(values, values[..., :1, :1, :1])
            torch.cuda.synchronize(device)
            if may_compile:
                importlib.import_module("torch._inductor.compile_fx")

    threading.Thread(target=start, daemon=True).start()


def clip_gradients(fabric: Any, network: torch.nn.Module, optimizer: Any, max_norm: float) -> None:
    """Scale all gradients down where they are longer than a norm.

    A gradient that is no number is met in the next loss, whose error names the cases.

    Args:
        fabric: knows the scale of the loss in fp16.
        network: as fabric has set it up.
        optimizer: likewise.
        max_norm: of all gradients together.
    """
    import torch

    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if scaler is None:
        fabric.clip_gradients(network, optimizer, max_norm=max_norm, error_if_nonfinite=False)
        return
    # fabric refuses this for a fused optimizer; torch's scaler notes that the gradients are unscaled already.
    scaler.unscale_(optimizer.optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm, error_if_nonfinite=False)


def count_threads(options: TrainOptions) -> int:
    """How many threads one process may use: the option, or its share of this machine's cores, at least 1."""
    return options.threads or max(1, count_cores() // count_local_processes())


def _explain_multi_gpu() -> str:
    import torch

    devices = torch.cuda.device_count()
    if devices < 2:
        return "multi_gpu: there is one device here, training goes on with it"
    command = f"torchrun --standalone --nproc_per_node {devices} -m tasks.train WORKSPACE"
    return f"multi_gpu: one of {devices} GPUs is used; all are with: {command}"


def seed_everything(seed: int, determinism: Determinism, *, deterministic: bool = False) -> int:
    """Seed Python, NumPy and torch; return the seed that batches are drawn with.

    Clara names one seed a library; ``tf_seed`` was the network's and so is torch's here.

    Args:
        seed: for what ``determinism`` does not name.
        determinism: the configuration's seeds.
        deterministic: forbid operations whose result may differ from run to run.
    """
    import torch

    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        # cuBLAS is repeatable only with a workspace of fixed size (CUDA's manual, "Results reproducibility").
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        # Filling memory that is overwritten anyway costs time and changes no result.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    random.seed(determinism.python_seed if determinism.python_seed is not None else seed)
    np.random.seed(seed if determinism.numpy_seed is None else determinism.numpy_seed)
    torch.manual_seed(seed if determinism.tf_seed is None else determinism.tf_seed)
    return seed if determinism.random_seed is None else determinism.random_seed
