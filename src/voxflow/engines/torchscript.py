"""The engine torchscript: model.ts, which holds the network's code beside its weights."""

from __future__ import annotations

import warnings
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from voxflow.engines.files import is_local, read_spec
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.engines.source import make_example_input
from voxflow.engines.torch import (
    choose_batch,
    compute_in_half,
    copy_to_processor,
    list_half_precisions,
    place_module,
    run_module,
    run_on_arrays,
    take_variant,
)
from voxflow.errors import DataError, VoxflowError
from voxflow.machine import has_gpu
from voxflow.torch_files import open_torch_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from voxflow.engines.source import ExportSource
    from voxflow.spec import ModelSpec

HALF, BFLOAT16 = "torchscript-fp16", "torchscript-bf16"
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
    variants: ClassVar[tuple[str, ...]] = (HALF, BFLOAT16)

    @override
    def uses_gpu(self) -> bool:
        return has_gpu()

    @override
    def open(self, file: Path, variant: str | None = None) -> Engine:
        engine = TorchScriptEngine(file)
        return take_variant(engine, file, (variant,)) if variant else engine

    @override
    def open_fastest(self, file: Path) -> Engine:
        engine = TorchScriptEngine(file)
        return take_variant(engine, file, list_half_precisions(engine, HALF, BFLOAT16))

    @override
    def write(self, source: ExportSource) -> None:
        write_torchscript(source.module, source.spec, source.folder / self.file)


class TorchScriptEngine(Engine):
    """Runs model.ts on the GPU where there is one, else on the processor."""

    name = TorchScriptKind.name
    variant: str | None = None

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        """Load the file.

        Args:
            path: model.ts.
            spec: of a file that another program exported; None: the file's own.

        Raises:
            DataError: no TorchScript, or it has no spec.
        """
        import torch

        files = {SPEC_FILE: ""}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _DEPRECATION, DeprecationWarning)
            try:
                module: Any = torch.jit.load(str(path), map_location="cpu", _extra_files=files)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise DataError(f"no TorchScript file: {str(error).splitlines()[0]}", path=path) from error
        self.spec = spec or read_spec(files[SPEC_FILE], path)
        self.is_local = is_local([str(module.inlined_graph)])
        self.module, self.device = place_module(module)
        self.batch = choose_batch(self.device)

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_on_arrays(self, batch)

    @override
    def on_processor(self) -> TorchScriptEngine:
        return copy_to_processor(self)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        with compute_in_half(str(self.device), self.variant):
            return run_module(self.module, batch)


def has_torchscript_spec(path: Path) -> bool:
    """Whether a TorchScript file is one of Voxflow's own; False, too, where it can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{SPEC_FILE}") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def open_foreign_torchscript(path: Path, spec: ModelSpec, size: Sequence[int]) -> TorchScriptEngine:
    """Open a TorchScript file that another program exported, such as Clara 4; its channels are read from itself.

    Args:
        path: the file.
        spec: what is known of it; its channels and classes are corrected by the file.
        size: a spatial size that it takes, such as (96, 96, 96).

    Raises:
        DataError: no TorchScript, or it answers an image of this size with anything but logits on its grid.
    """
    import torch

    engine = TorchScriptEngine(path, spec)
    weights = (value for value in engine.module.parameters() if value.ndim == len(size) + 2)
    first = next(weights, None)
    channels = spec.in_channels if first is None else int(first.shape[1])  # a frozen module has no parameters
    example = torch.zeros((1, channels, *size), device=engine.device)
    try:
        with torch.inference_mode():
            answer = engine.module(example)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"it can't be run on an image of {channels} × {list(size)}: {reason}", path=path) from error
    expected = tuple(size) if spec.task == "segmentation" else ()
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape[2:]) != expected or answer.ndim < 2:
        raise DataError(f"it answers an image of {list(size)} with no logits of that size", path=path)
    classes = int(answer.shape[1])
    names = spec.class_names if len(spec.class_names) == classes else tuple(f"class_{n}" for n in range(classes))
    engine.spec = spec.model_copy(update={"in_channels": channels, "class_names": names})
    return engine


class _SortedSet(set[str]):
    """A set whose elements come in alphabetical order."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


@contextmanager
def _order_constants() -> Iterator[None]:
    """Let the compiler write a module's constants in one order.

    torch 2.13 goes through a set of their names, whose order is another in each process (PYTHONHASHSEED).
    """
    from torch.jit import _recursive

    names = vars(_recursive)
    names["set"] = _SortedSet
    try:
        yield
    finally:
        names.pop("set", None)


def write_torchscript(module: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write model.ts: scripted where the network's code allows, so that any size is right; else traced.

    Args:
        module: the network, on the CPU, in evaluation mode.
        spec: goes into the file.
        path: the file.
    """
    import torch

    from voxflow.components import get_onnx_program, unwrap_program

    if get_onnx_program(module) is not None:
        raise VoxflowError("the network was adopted as an ONNX file, and can be written as no TorchScript")
    with warnings.catch_warnings(), _order_constants():
        warnings.filterwarnings("ignore", _DEPRECATION, DeprecationWarning)
        try:
            scripted: Any = torch.jit.script(unwrap_program(module))
        except Exception:  # noqa: BLE001 - the compiler raises whatever the network's code leads it to
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
            scripted = torch.jit.trace(module, make_example_input(spec))  # type: ignore[no-untyped-call]
        with open_torch_file(path) as stream:
            torch.jit.save(scripted, stream, _extra_files={SPEC_FILE: spec.model_dump_json()})
