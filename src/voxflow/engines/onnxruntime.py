"""The engine onnxruntime: model.onnx, written by torch's exporter and run on the CPU."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from voxflow.engines.files import get_fixed_size, is_local, list_onnx_operators, read_spec
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.engines.source import INPUT_NAME, OUTPUT_NAME, make_example_input
from voxflow.errors import DataError, VoxflowError
from voxflow.files import atomic_path
from voxflow.machine import count_cores
from voxflow.progress import say

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from voxflow.engines.source import ExportSource
    from voxflow.spec import ModelSpec

# The ONNX metadata that holds the spec's JSON.
SPEC_KEY = "voxflow_spec"
AXES = ("i", "j", "k")
# How far a second size may be from torch before the file is taken to be bound to the size it was traced at.
SAME_MODEL = 1e-3
# Errors alone: a failure raises, and its lines on stderr would only say it twice.
_LOG_SEVERITY = 4


class OnnxRuntimeKind(EngineKind):
    """Runs an ONNX file, which other engines are made from too."""

    name: ClassVar[str] = "onnxruntime"
    title: ClassVar[str] = "ONNX Runtime"
    file: ClassVar[str] = "model.onnx"
    format: ClassVar[str | None] = "onnx"
    package: ClassVar[str] = "onnxruntime"

    @override
    def open(self, file: Path, variant: str | None = None) -> OnnxRuntimeEngine:
        return OnnxRuntimeEngine(file)

    @override
    def write(self, source: ExportSource) -> None:
        """Write the file, which the source keeps for all engines that are made from it."""
        _ = source.onnx_file


class OnnxRuntimeEngine(Engine):
    """Runs model.onnx on the CPU."""

    name = OnnxRuntimeKind.name

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = session = self._open()
        self.spec = read_spec(session.get_modelmeta().custom_metadata_map.get(SPEC_KEY, ""), path)
        self.is_local = is_local(list_onnx_operators(path))
        self._input = session.get_inputs()[0]
        self.smallest = self.largest = get_fixed_size(self._input.shape[2:])

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._session is None:
            self._session = self._open()
        return np.asarray(self._session.run(None, {self._input.name: np.ascontiguousarray(batch)})[0])

    @override
    def release_memory(self) -> None:
        """See :meth:`voxflow.engines.Engine.release_memory`: a session keeps its memory, so another one follows."""
        self._session = None

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count_cores()
        try:
            return _open_session(self._path, options)
        except Exception as error:
            raise DataError(f"no ONNX model: {str(error).splitlines()[0]}", path=self._path) from error


def _open_session(path: Path, options: Any) -> Any:
    import onnxruntime

    options.log_severity_level = _LOG_SEVERITY
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write_onnx(module: torch.nn.Module, spec: ModelSpec, path: Path, opset: int) -> bool:
    """Write model.onnx and return whether its spatial size is open.

    Batch and space are open axes; where the file then gives other logits than torch at a second size, it is written
    for the training window alone.

    Args:
        module: the network, on the CPU, in evaluation mode.
        spec: goes into the file.
        path: the file.
        opset: ONNX operator set.

    Raises:
        VoxflowError: the network can't be expressed in ONNX.
    """
    from voxflow.components import get_onnx_program

    program = get_onnx_program(module)
    with atomic_path(path) as temporary:
        if program is not None:
            temporary.write_bytes(program)
        is_open = program is None and not spec.of_network.fixed_window
        if is_open:
            _export_onnx(module, spec, temporary, opset, is_open=True)
            is_open = _matches_at_second_size(module, spec, temporary)
        if not is_open and program is None:
            _export_onnx(module, spec, temporary, opset, is_open=False)
        _add_spec(temporary, spec)
    return is_open


def write_source_onnx(source: ExportSource) -> Path:
    """Write a source's ONNX file, and return it.

    Where it takes one size of input only, a line tells so; inference then cuts images into windows of that size.
    """
    file, spec = source.folder / OnnxRuntimeKind.file, source.spec.of_network
    if not write_onnx(source.module, source.spec, file, source.options.opset):
        say(f"export: the ONNX file takes one size only, {spec.window or spec.size}; windows of it are used")
    return file


def _export_onnx(module: torch.nn.Module, spec: ModelSpec, path: Path, opset: int, *, is_open: bool) -> None:
    import torch

    from voxflow.components import unwrap_program

    example = make_example_input(spec)
    axes: dict[str, dict[int, str]] = {INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}}
    if is_open:
        space = {n + 2: axis for n, axis in enumerate(AXES[: example.ndim - 2])}
        axes[INPUT_NAME] |= space
        if spec.task == "segmentation":
            axes[OUTPUT_NAME] |= space
    with warnings.catch_warnings():
        # The tracer warns of every branch on a size, the exporter of its age. Both are answered: the file is held
        # against torch at a second size, and the newer exporter is slower (27 s against 1 s for a DenseNet) and
        # needs a package more.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                unwrap_program(module),
                (example,),
                str(path),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=opset,
                dynamic_axes=axes,
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise VoxflowError(f"the network can't be exported to ONNX: {str(error).splitlines()[0]}") from error


def _matches_at_second_size(module: torch.nn.Module, spec: ModelSpec, path: Path) -> bool:
    import onnxruntime
    import torch

    example = make_example_input(spec, larger=1)
    with torch.inference_mode():
        expected = module(example).numpy()
    session = _open_session(path, onnxruntime.SessionOptions())
    try:
        received = session.run(None, {INPUT_NAME: example.numpy()})[0]
    except Exception:  # noqa: BLE001 - onnxruntime's own errors share no base but this
        return False
    scale = max(1.0, float(np.abs(expected).max()))
    return received.shape == expected.shape and bool(np.abs(received - expected).max() <= SAME_MODEL * scale)


def _add_spec(path: Path, spec: ModelSpec) -> None:
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
