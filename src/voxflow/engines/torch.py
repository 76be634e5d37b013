"""The engine torch: model.pt as the training wrote it, in half precision or compiled where asked to.

It is the reference that every exported file is compared with, so on a GPU it computes in float32 without TF32.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import numpy as np
from typing_extensions import override

from voxflow.engines.files import cache_folder, is_local
from voxflow.engines.first_use import FirstUseEngine, Limits, explain_record, name_record
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.errors import MissingDependencyError
from voxflow.machine import has_gpu, read_gpu_driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

# Tighter than what a person may ask for, since nobody asked for half precision.
HALF_LIMITS = Limits(max_abs_difference=None, min_dice=0.999)
E = TypeVar("E", bound=Any)

BFLOAT16, HALF, COMPILED = "torch-bf16", "torch-fp16", "torch-compiled"
# Windows that keep a GPU busy at a time. On a processor torch leaves a single small window of few channels to a
# convolution of its own, several times as slow as oneDNN's, which it takes as soon as there are two.
GPU_BATCH, CPU_BATCH = 4, 2


class TorchKind(EngineKind):
    """Runs a checkpoint; nothing is exported for it."""

    name: ClassVar[str] = "torch"
    title: ClassVar[str] = "torch"
    file: ClassVar[str] = "model.pt"
    package: ClassVar[str] = "torch"
    variants: ClassVar[tuple[str, ...]] = (BFLOAT16, HALF, COMPILED)

    @override
    def uses_gpu(self) -> bool:
        return has_gpu()

    @override
    def open(self, file: Path, variant: str | None = None) -> TorchEngine:
        return TorchEngine(file, variant)

    @override
    def open_fastest(self, file: Path) -> Engine:
        return take_half_precision(self.open(file), file, HALF)


class TorchEngine(Engine):
    """Runs model.pt on the GPU where there is one, else on the processor.

    Attributes:
        module: the network, in evaluation mode, on ``device``.
        device: "cuda" or "cpu".
    """

    name = TorchKind.name

    def __init__(self, path: Path, variant: str | None = None) -> None:
        from voxflow.training import load_model

        module, self.spec = load_model(path)
        self.variant = variant
        self.is_local = is_local(type(part).__name__ for part in module.modules())
        self.module, self.device = place_module(module)
        self.batch = choose_batch(self.device)
        if variant == COMPILED:
            # Once for each size of window: code for all sizes at once is what torch 2.13 fails to make of a U-Net.
            self.module.compile(dynamic=False)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`voxflow.engines.Engine.run`.

        Raises:
            MissingDependencyError: the network can't be compiled here, most often since there is no C++ compiler.
        """
        return run_on_arrays(self, batch)

    @override
    def on_processor(self) -> TorchEngine:
        return copy_to_processor(self)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        import torch
        from torch._dynamo.exc import TorchDynamoException

        device = str(self.device)
        half = torch.float16 if self.variant == HALF else torch.bfloat16
        try:
            with torch.autocast(device, half, enabled=self.variant in (BFLOAT16, HALF)):
                return run_module(self.module, batch)
        except TorchDynamoException as error:
            reason = next(line for line in str(error).splitlines() if line.strip())
            raise MissingDependencyError(f"the engine {COMPILED} can't run here: {reason}") from error


def take_half_precision(engine: Any, file: Path, name: str) -> Engine:
    """Let an engine of torch's compute in half precision on a GPU, where its masks were compared there.

    The comparison is made at the first use on each GPU, on windows of a real image, with the same model in float32.

    Args:
        engine: in float32; on a processor it is returned as it is.
        file: the model's.
        name: of the engine in half precision.
    """
    if engine.device != "cuda":
        return cast("Engine", engine)
    import torch

    half = copy.copy(engine)
    half.name = half.variant = name
    place = {
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name(),
        "driver": read_gpu_driver(),
        "precision": name,
    }
    record = name_record(cache_folder(), file, place)
    fault = explain_record(record)
    if fault == "":
        return FirstUseEngine(half, lambda: engine, limits=HALF_LIMITS, record=record, place=place)
    return cast("Engine", half if fault is None else engine)


def place_module(module: Any) -> tuple[Any, str]:
    """Bring a module to the GPU where there is one.

    Returns:
        The module in evaluation mode, and its device: "cuda" or "cpu".
    """
    device = "cuda" if has_gpu() else "cpu"
    module = module.eval().to(device)
    if device == "cuda":
        _put_channels_last(module)
    return module, device


def _put_channels_last(module: Any) -> None:
    """Lay the weights of convolutions as a GPU's kernels read them; of fewer or more axes there are none."""
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weights in module.parameters():
        if weights.ndim in formats:
            weights.data = weights.data.contiguous(memory_format=formats[weights.ndim])


def copy_to_processor(engine: E) -> E:
    """Copy an engine of torch's, whose module goes to the processor; the engine itself stays where it is."""
    copied = copy.copy(engine)
    copied.module = copy.deepcopy(engine.module).to("cpu")
    copied.device, copied.batch = "cpu", CPU_BATCH
    # Half precision was compared on the GPU alone, and is no gain on most processors.
    copied.variant = None
    return copied


def choose_batch(device: str) -> int:
    """Return how many windows torch is fastest with on a device."""
    return GPU_BATCH if device == "cuda" else CPU_BATCH


def run_on_arrays(engine: Any, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run an engine that takes tensors on an array.

    Args:
        engine: with a ``device``.
        batch: (batch, channel, *space), float32.

    Returns:
        Logits in memory, float32, whatever the network computed in.
    """
    import torch

    logits = engine.run_tensor(torch.from_numpy(np.ascontiguousarray(batch)).to(engine.device))
    return np.asarray(logits.float().cpu().numpy())


def run_module(module: Any, batch: torch.Tensor) -> torch.Tensor:
    """Run a module on a batch.

    Args:
        module: a network, or a TorchScript one.
        batch: (batch, channel, *space), float32, where the module lies.

    Returns:
        Logits there, in what the network computed in.
    """
    import torch

    with torch.inference_mode(), _compute_exactly():
        logits: torch.Tensor = module(batch)
    return logits


@contextmanager
def _compute_exactly() -> Iterator[None]:
    """Keep a GPU from rounding what goes into a convolution or a product to TF32's ten bits, as torch lets it."""
    import torch

    # Not by cudnn.flags: what it is not told, it sets to its own defaults, and so turns cuDNN off.
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
