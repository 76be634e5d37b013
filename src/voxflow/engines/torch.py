"""Owns the engine torch: model.pt as torch built it, in bfloat16 or compiled where asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from voxflow.engines.files import is_local
from voxflow.errors import MissingDependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.protocol import EngineName, TorchWay

# Windows that keep a GPU busy at a time. On a processor torch leaves a single small window of few channels to a
# convolution of its own, several times as slow as oneDNN's, which it takes as soon as there are two.
GPU_BATCH, CPU_BATCH = 4, 2


class TorchEngine:
    """Runs model.pt as torch built it, in bfloat16 or compiled where asked to, on the GPU where there is one."""

    name: ClassVar[EngineName] = "torch"
    smallest = largest = None

    def __init__(self, path: Path, way: TorchWay | None = None) -> None:
        from voxflow.training import load_model

        module, self.spec = load_model(path)
        self.way = way
        self.is_local = is_local(type(part).__name__ for part in module.modules())
        self.module, self.device = place_module(module)
        self.batch = batch_size(self.device)
        if way == "torch-compiled":
            # Once for each size of window: code for all sizes at once is what torch 2.13 fails to make of a U-Net.
            self.module.compile(dynamic=False)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`.

        Raises:
            MissingDependencyError: the network can't be compiled here, most often since there is no C++ compiler.
        """
        import torch
        from torch._dynamo.exc import TorchDynamoException

        try:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.way == "torch-bf16"):
                return run_torch(self.module, self.device, batch)
        except TorchDynamoException as error:
            said = next(line for line in str(error).splitlines() if line.strip())
            raise MissingDependencyError(f"the engine torch-compiled can't run here: {said}") from error


def place_module(module: Any) -> tuple[Any, str]:
    """Bring a module to the GPU where there is one; return it and the device's name."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return module.eval().to(device), device


def batch_size(device: str) -> int:
    """Return how many windows torch takes at a time on a device."""
    return GPU_BATCH if device == "cuda" else CPU_BATCH


def run_torch(module: Any, device: str, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a module on a batch (batch, channel, *space) on a device."""
    import torch

    with torch.inference_mode():
        answer = module(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
    return np.asarray(answer.float().cpu().numpy())
