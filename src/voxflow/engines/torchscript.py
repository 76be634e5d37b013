"""Owns the engine torchscript: model.ts, which needs no code of the network."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.engines.files import is_local, read_spec
from voxflow.engines.torch import batch_size, place_module, run_torch
from voxflow.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.engines.protocol import EngineName

# The file inside model.ts that holds the ModelSpec's JSON.
SPEC_FILE = "voxflow_spec.json"


class TorchScriptEngine:
    """Runs model.ts; needs no code of the network."""

    name: ClassVar[EngineName] = "torchscript"
    smallest = largest = None

    def __init__(self, path: Path) -> None:
        import torch

        files = {SPEC_FILE: ""}
        with warnings.catch_warnings():
            # The format stays a deliverable while torch, pinned exactly, still reads it.
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            try:
                module: Any = torch.jit.load(str(path), map_location="cpu", _extra_files=files)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise DataError(f"no TorchScript file: {str(error).splitlines()[0]}", path=path) from error
        self.spec = read_spec(files[SPEC_FILE], path)
        self.is_local = is_local([str(module.inlined_graph)])
        self.module, self.device = place_module(module)
        self.batch = batch_size(self.device)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        return run_torch(self.module, self.device, batch)
