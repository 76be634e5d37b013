"""The engine torchscript: model.ts, which holds the network's code beside its weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from voxflow.engines.files import is_local, read_spec
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.engines.source import make_example_input
from voxflow.engines.torch import choose_batch, place_module, run_module
from voxflow.errors import DataError
from voxflow.files import atomic_path
from voxflow.machine import has_gpu

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from voxflow.engines.source import ExportSource
    from voxflow.spec import ModelSpec

# The file inside model.ts that holds the spec's JSON.
SPEC_FILE = "voxflow_spec.json"
# The format stays a deliverable while torch, pinned exactly, still reads and writes it.
_DEPRECATION = r"`torch\.jit\.\w+` is deprecated"


class TorchScriptKind(EngineKind):
    """Runs a network without its Python code."""

    name: ClassVar[str] = "torchscript"
    title: ClassVar[str] = "TorchScript"
    file: ClassVar[str] = "model.ts"
    format: ClassVar[str | None] = "torchscript"
    package: ClassVar[str] = "torch"

    @override
    def uses_gpu(self) -> bool:
        return has_gpu()

    @override
    def open(self, file: Path, variant: str | None = None) -> TorchScriptEngine:
        return TorchScriptEngine(file)

    @override
    def write(self, source: ExportSource) -> None:
        write_torchscript(source.module, source.spec, source.folder / self.file)


class TorchScriptEngine(Engine):
    """Runs model.ts on the GPU where there is one, else on the processor."""

    name = TorchScriptKind.name

    def __init__(self, path: Path) -> None:
        import torch

        files = {SPEC_FILE: ""}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _DEPRECATION, DeprecationWarning)
            try:
                module: Any = torch.jit.load(str(path), map_location="cpu", _extra_files=files)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise DataError(f"no TorchScript file: {str(error).splitlines()[0]}", path=path) from error
        self.spec = read_spec(files[SPEC_FILE], path)
        self.is_local = is_local([str(module.inlined_graph)])
        self.module, self.device = place_module(module)
        self.batch = choose_batch(self.device)

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_module(self.module, self.device, batch)


def write_torchscript(module: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write model.ts: scripted where the network's code allows, so that any size is right; else traced.

    Args:
        module: the network, on the CPU, in evaluation mode.
        spec: goes into the file.
        path: the file.
    """
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _DEPRECATION, DeprecationWarning)
        try:
            scripted: Any = torch.jit.script(module)
        except Exception:  # noqa: BLE001 - the compiler raises whatever the network's code leads it to
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            scripted = torch.jit.trace(module, make_example_input(spec))  # type: ignore[no-untyped-call]
        with atomic_path(path) as temporary:
            torch.jit.save(scripted, str(temporary), _extra_files={SPEC_FILE: spec.model_dump_json()})
