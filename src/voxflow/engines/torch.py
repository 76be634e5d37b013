"""The engine torch: model.pt as the training wrote it, in bfloat16 or compiled where asked to.

It is the reference that every exported file is compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from voxflow.engines.files import is_local
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.errors import MissingDependencyError
from voxflow.machine import has_gpu

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BFLOAT16, COMPILED = "torch-bf16", "torch-compiled"
# Windows that keep a GPU busy at a time. On a processor torch leaves a single small window of few channels to a
# convolution of its own, several times as slow as oneDNN's, which it takes as soon as there are two.
GPU_BATCH, CPU_BATCH = 4, 2


class TorchKind(EngineKind):
    """Runs a checkpoint; nothing is exported for it."""

    name: ClassVar[str] = "torch"
    title: ClassVar[str] = "torch"
    file: ClassVar[str] = "model.pt"
    package: ClassVar[str] = "torch"
    variants: ClassVar[tuple[str, ...]] = (BFLOAT16, COMPILED)

    @override
    def uses_gpu(self) -> bool:
        return has_gpu()

    @override
    def open(self, file: Path, variant: str | None = None) -> TorchEngine:
        return TorchEngine(file, variant)


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
        import torch
        from torch._dynamo.exc import TorchDynamoException

        try:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.variant == BFLOAT16):
                return run_module(self.module, self.device, batch)
        except TorchDynamoException as error:
            reason = next(line for line in str(error).splitlines() if line.strip())
            raise MissingDependencyError(f"the engine {COMPILED} can't run here: {reason}") from error


def place_module(module: Any) -> tuple[Any, str]:
    """Bring a module to the GPU where there is one.

    Returns:
        The module in evaluation mode, and its device: "cuda" or "cpu".
    """
    device = "cuda" if has_gpu() else "cpu"
    return module.eval().to(device), device


def choose_batch(device: str) -> int:
    """Return how many windows torch is fastest with on a device."""
    return GPU_BATCH if device == "cuda" else CPU_BATCH


def run_module(module: Any, device: str, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a module on a batch.

    Args:
        module: a network, or a TorchScript one.
        device: where it lies; the batch is brought there.
        batch: (batch, channel, *space), float32.

    Returns:
        Logits in memory, float32, whatever the network computed in.
    """
    import torch

    with torch.inference_mode():
        logits = module(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
    return np.asarray(logits.float().cpu().numpy())
