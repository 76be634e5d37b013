"""Owns the engines that run on any machine: torch, TorchScript, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from voxflow.components.own import custom_of
from voxflow.errors import DataError, MissingDependencyError
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.inference.engines import EngineName, TorchWay

# Where each file format keeps the ModelSpec's JSON.
SPEC_FILE = "voxflow_spec.json"
SPEC_KEY = "voxflow_spec"
SPEC_RT_INFO = ("voxflow", "spec")
PRECISION_RT_INFO = ("voxflow", "precision")

# Windows that keep a GPU busy at a time. On a processor torch leaves a single small window of few channels to a
# convolution of its own, several times as slow as oneDNN's, which it takes as soon as there are two.
GPU_BATCH, CPU_BATCH = 4, 2

# What averages over all that it is shown, by the names of modules and operators: instance and group norm, global
# pooling. A network with one of these answers otherwise when its window grows.
_GLOBAL = re.compile(r"instance_?norm|group_?norm|layer_?norm|adaptive_?\w*pool|global\w*pool|^MVN$", re.IGNORECASE)

# Compiling OpenVINO's network for one size takes 0.15 s. From this size on it gains more: a run is a tenth shorter, the
# first one a quarter, and memory is planned as a whole, a fifth less of it (measured on a U-Net of 16 to 256 features).
OWN_CODE_VOXELS = 2_000_000


class TorchEngine:
    """Runs model.pt as torch built it, in bfloat16 or compiled where asked to, on the GPU where there is one."""

    name: ClassVar[EngineName] = "torch"
    smallest = largest = None

    def __init__(self, path: Path, way: TorchWay | None = None) -> None:
        from voxflow.training import load_model

        module, self.spec = load_model(path)
        self.way = way
        self.is_local = is_local(type(part).__name__ for part in module.modules())
        self.module, self.device = _ready(module)
        self.batch = _batch(self.device)
        if way == "torch-compiled":
            # Once for each size of window: code for all sizes at once is what torch 2.13 fails to make of a U-Net.
            self.module.compile(dynamic=False)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.inference.Engine`.

        Raises:
            MissingDependencyError: the network can't be compiled here, most often since there is no C++ compiler.
        """
        import torch
        from torch._dynamo.exc import TorchDynamoException

        try:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.way == "torch-bf16"):
                return _run_torch(self.module, self.device, batch)
        except TorchDynamoException as error:
            said = next(line for line in str(error).splitlines() if line.strip())
            raise MissingDependencyError(f"the engine torch-compiled can't run here: {said}") from error


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
        self.spec = _spec(files[SPEC_FILE], path)
        self.is_local = is_local([str(module.inlined_graph)])
        self.module, self.device = _ready(module)
        self.batch = _batch(self.device)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.inference.Engine`."""
        return _run_torch(self.module, self.device, batch)


class OnnxRuntimeEngine:
    """Runs model.onnx on the CPU."""

    name: ClassVar[EngineName] = "onnxruntime"
    batch: ClassVar[int] = 1

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        # A failure raises; its lines on stderr would only say it twice.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise DataError(f"no ONNX model: {str(error).splitlines()[0]}", path=path) from error
        self.spec = _spec(self._session.get_modelmeta().custom_metadata_map.get(SPEC_KEY, ""), path)
        self.is_local = is_local(onnx_operators(path))
        self._input = self._session.get_inputs()[0]
        self.smallest = self.largest = _fixed_size(self._input.shape[2:])

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.inference.Engine`."""
        return np.asarray(self._session.run(None, {self._input.name: np.ascontiguousarray(batch)})[0])


class OpenVinoEngine:
    """Runs model.xml with model.bin on the CPU, in float32 unless the model says bf16 (a CPU would round by itself)."""

    name: ClassVar[EngineName] = "openvino"
    batch: ClassVar[int] = 1

    def __init__(self, path: Path) -> None:
        ov = import_openvino()
        core = ov.Core()
        try:
            model = core.read_model(str(path))
        except RuntimeError as error:
            raise DataError(f"no OpenVINO model: {_last_line(error)}", path=path) from error
        here = model.has_rt_info(list(SPEC_RT_INFO))
        self.spec = _spec(model.get_rt_info(list(SPEC_RT_INFO)).astype(str) if here else "", path)
        self.smallest = self.largest = _fixed_size(
            [None if axis.is_dynamic else axis.get_length() for axis in list(model.input(0).get_partial_shape())[2:]]
        )
        self.is_local = is_local(operator.get_type_name() for operator in model.get_ops())
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if model.has_rt_info(list(PRECISION_RT_INFO)) else "f32",
            "INFERENCE_NUM_THREADS": available_cores(),
        }
        self._core, self._model, self._hints = core, model, hints
        self._requests: dict[tuple[int, ...], Any] = {}
        self._expected: dict[tuple[int, ...], Future[Any]] = {}
        self._lock = Lock()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.inference.Engine`."""
        answer = self._request(batch.shape).infer([np.ascontiguousarray(batch)], share_inputs=True)
        return np.asarray(answer[0])

    def expect(self, shape: tuple[int, ...]) -> None:
        """See :class:`voxflow.inference.engines.Forewarned`."""
        key = shape if self._has_own(shape) else ()
        with self._lock:
            if key not in self._requests and key not in self._expected:
                self._expected = {key: self._compiled(key)}

    def _request(self, shape: tuple[int, ...]) -> Any:
        """What runs an input of this shape; which one is a matter of the shape alone, so that results are too."""
        key = shape if self._has_own(shape) else ()
        with self._lock:
            if key not in self._requests:
                compiled = self._expected.pop(key, None) or self._compiled(key)
                if key:
                    # Of those with memory of their own only the last is kept.
                    self._requests = {which: request for which, request in self._requests.items() if not which}
                self._requests[key] = compiled.result().create_infer_request()
            return self._requests[key]

    def _has_own(self, shape: tuple[int, ...]) -> bool:
        space = shape[2:]
        if self.smallest is not None:
            return False
        return space in {self.spec.window, self.spec.size} or math.prod(space) >= OWN_CODE_VOXELS

    def _compiled(self, shape: tuple[int, ...]) -> Future[Any]:
        """Compile the network for one shape of input, or without one for any."""

        def compile_model() -> Any:
            model = self._model
            if shape:
                model = model.clone()
                model.reshape(list(shape))
            return self._core.compile_model(model, "CPU", self._hints)

        # On processors with AMX, OpenVINO gives the thread that loads it a stack for signal handlers, and frees it when
        # the last model goes, in whatever thread: a signal that this one gets afterwards would end the process.
        thread = ThreadPoolExecutor(1)
        compiled = thread.submit(compile_model)
        thread.shutdown(wait=False)
        return compiled


def import_openvino() -> Any:
    """Import openvino with its telemetry off: without its sender, it takes the stub that it ships itself."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino

    return openvino


def is_local(parts: Iterable[str]) -> bool:
    """Whether none of the named modules or operators averages over the whole window."""
    return not any(_GLOBAL.search(part) for part in parts)


def onnx_operators(path: Path) -> set[str]:
    """The operators that an ONNX file uses."""
    import onnx

    return {node.op_type for node in onnx.load(str(path)).graph.node}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spec(text: str | bytes, path: Path) -> ModelSpec:
    if not text:
        raise DataError("the model file carries no Voxflow spec; export it with Voxflow", path=path)
    return ModelSpec.model_validate_json(text).at(custom_of(path))


def _ready(module: Any) -> tuple[Any, str]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return module.eval().to(device), device


def _batch(device: str) -> int:
    return GPU_BATCH if device == "cuda" else CPU_BATCH


def _run_torch(module: Any, device: str, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        answer = module(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
    return np.asarray(answer.float().cpu().numpy())


def _fixed_size(shape: Sequence[int | str | None]) -> tuple[int, ...] | None:
    """The spatial size where every axis has one; None where the file leaves them open."""
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
