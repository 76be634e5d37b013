"""Owns the engine openvino: model.xml with model.bin on the CPU."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from voxflow.engines.files import fixed_size, is_local, read_spec
from voxflow.errors import DataError
from voxflow.machine import count_cores

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.protocol import EngineName

# Where the runtime information of model.xml holds the ModelSpec's JSON, and the precision other than float32.
SPEC_RT_INFO = ("voxflow", "spec")
PRECISION_RT_INFO = ("voxflow", "precision")

# Compiling OpenVINO's network for one size takes 0.15 s. From this size on it gains more: a run is a tenth shorter, the
# first one a quarter, and memory is planned as a whole, a fifth less of it (measured on a U-Net of 16 to 256 features).
OWN_CODE_VOXELS = 2_000_000


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
        self.spec = read_spec(model.get_rt_info(list(SPEC_RT_INFO)).astype(str) if here else "", path)
        self.smallest = self.largest = fixed_size(
            [None if axis.is_dynamic else axis.get_length() for axis in list(model.input(0).get_partial_shape())[2:]]
        )
        self.is_local = is_local(operator.get_type_name() for operator in model.get_ops())
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if model.has_rt_info(list(PRECISION_RT_INFO)) else "f32",
            "INFERENCE_NUM_THREADS": count_cores(),
        }
        self._core, self._model, self._hints = core, model, hints
        self._requests: dict[tuple[int, ...], Any] = {}
        self._expected: dict[tuple[int, ...], Future[Any]] = {}
        self._lock = Lock()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        answer = self._request(batch.shape).infer([np.ascontiguousarray(batch)], share_inputs=True)
        return np.asarray(answer[0])

    def expect(self, shape: tuple[int, ...]) -> None:
        """See :class:`voxflow.engines.Prefetchable`."""
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


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
