"""The engine openvino: model.xml with model.bin, made from ONNX and run on the CPU.

It computes in float32. A model of less precision, bf16 or int8 quantised by NNCF on real images, takes the place of
the first one where its masks are good enough.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from voxflow.engines.files import get_fixed_size, is_local, read_spec
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.engines.subpixel import use_subpixels
from voxflow.errors import DataError, last_line_of
from voxflow.files import report_failed_write
from voxflow.machine import count_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.engines.options import WriteOptions
    from voxflow.engines.source import ExportSource
    from voxflow.spec import ModelSpec

# Where the runtime information of model.xml holds the spec's JSON, and the precision where it is not float32.
SPEC_RT_INFO = ("voxflow", "spec")
PRECISION_RT_INFO = ("voxflow", "precision")

# Compiling OpenVINO's network for one size takes 0.15 s. From this size on it gains more: a run is a tenth shorter, the
# first one a quarter, and memory is planned as a whole, a fifth less of it (measured on a U-Net of 16 to 256 features).
COMPILED_SIZE_VOXELS = 2_000_000


class OpenVinoKind(EngineKind):
    """Runs a network by Intel's library, the fastest on most processors."""

    name: ClassVar[str] = "openvino"
    title: ClassVar[str] = "OpenVINO"
    file: ClassVar[str] = "model.xml"
    format: ClassVar[str | None] = "openvino"
    package: ClassVar[str] = "openvino"
    is_optimised: ClassVar[bool] = True

    @override
    def list_sidecars(self, file: Path) -> tuple[Path, ...]:
        return (file.with_suffix(".bin"),)

    @override
    def open(self, file: Path, variant: str | None = None) -> OpenVinoEngine:
        return OpenVinoEngine(file)

    @override
    def write(self, source: ExportSource) -> None:
        half = source.options.fp16_weights
        write_openvino(source.onnx_file, source.spec, source.folder / self.file, fp16_weights=half)

    @override
    def read_precision(self, options: WriteOptions) -> str:
        return options.openvino_precision

    @override
    def is_calibrated(self, precision: str) -> bool:
        return precision == "int8"

    @override
    def explain_no_precision(self, precision: str, source: ExportSource) -> str | None:
        if precision == "int8" and find_spec("nncf") is None:
            return "nncf is not installed (pip install 'voxflow[int8]')"
        return None

    @override
    def write_reduced(
        self, source: ExportSource, file: Path, precision: str, samples: Sequence[NDArray[np.float32]]
    ) -> None:
        """Write a model of less precision from model.xml in float32; what that says of itself goes along.

        Args:
            source: its folder holds model.xml in float32.
            file: model.xml of the new one, beside which comes model.bin.
            precision: "bf16" asks the engine to compute so where the processor can; "int8" quantises the weights, and
                the activations by what ``samples`` make of them.
            samples: inputs (1, channel, *space) that the network takes.
        """
        ov = import_openvino()
        model = ov.Core().read_model(str(source.folder / self.file))
        if precision == "int8":
            model = _quantise(model, samples)
        else:
            model.set_rt_info("bf16", list(PRECISION_RT_INFO))
        with report_failed_write(file):
            ov.save_model(model, str(file), compress_to_fp16=False)


class OpenVinoEngine(Engine):
    """Runs model.xml with model.bin on the CPU, in float32 unless the model says bf16 (a CPU would round by itself).

    One network for all sizes is compiled at once. For the training's window and for large images another one is
    compiled for the very shape, in another thread where :meth:`announce_image` was told of it.
    """

    name = OpenVinoKind.name

    def __init__(self, path: Path) -> None:
        ov = import_openvino()
        core = ov.Core()
        try:
            model = core.read_model(str(path))
        except RuntimeError as error:
            raise DataError(f"no OpenVINO model: {last_line_of(error)}", path=path) from error
        has_spec = model.has_rt_info(list(SPEC_RT_INFO))
        self.spec = read_spec(model.get_rt_info(list(SPEC_RT_INFO)).astype(str) if has_spec else "", path)
        self.smallest = self.largest = get_fixed_size(
            [None if axis.is_dynamic else axis.get_length() for axis in list(model.input(0).get_partial_shape())[2:]]
        )
        self.is_local = is_local(operator.get_type_name() for operator in model.get_ops())
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if model.has_rt_info(list(PRECISION_RT_INFO)) else "f32",
            "INFERENCE_NUM_THREADS": count_cores(),
        }
        self._core, self._model, self._hints = core, model, hints
        # By the shape that a network was compiled for; () for the one of all sizes.
        self._requests: dict[tuple[int, ...], Any] = {}
        self._expected: dict[tuple[int, ...], Future[Any]] = {}
        self._lock = Lock()

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        results = self._request(batch.shape).infer([np.ascontiguousarray(batch)], share_inputs=True)
        return np.asarray(results[0])

    @override
    def expect(self, shape: tuple[int, ...]) -> None:
        """See :meth:`voxflow.engines.Engine.expect`: compile the network for this shape, in a thread of its own."""
        key = shape if self._is_compiled_alone(shape) else ()
        with self._lock:
            if key not in self._requests and key not in self._expected:
                self._expected = {key: self._compile(key)}

    @override
    def release_memory(self) -> None:
        """See :meth:`voxflow.engines.Engine.release_memory`: compiled networks stay, without their activations."""
        with self._lock:
            networks = {key: request.get_compiled_model() for key, request in self._requests.items()}
            self._requests = {}
            for key, network in networks.items():
                network.release_memory()
                compiled: Future[Any] = Future()
                compiled.set_result(network)
                self._expected[key] = compiled

    def _request(self, shape: tuple[int, ...]) -> Any:
        """What runs an input of this shape; which one is a matter of the shape alone, so that results are too."""
        key = shape if self._is_compiled_alone(shape) else ()
        with self._lock:
            if key not in self._requests:
                network = self._expected.pop(key, None) or self._compile(key)
                if key:
                    # Of those with memory of their own only the last is kept.
                    self._requests = {size: request for size, request in self._requests.items() if not size}
                self._requests[key] = network.result().create_infer_request()
            return self._requests[key]

    def _is_compiled_alone(self, shape: tuple[int, ...]) -> bool:
        space = shape[2:]
        if self.smallest is not None:
            return False
        spec = self.spec.of_network
        return space in {spec.window, spec.size} or math.prod(space) >= COMPILED_SIZE_VOXELS

    def _compile(self, shape: tuple[int, ...]) -> Future[Any]:
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
        network = thread.submit(compile_model)
        thread.shutdown(wait=False)
        return network


def import_openvino() -> Any:
    """Import openvino with its telemetry off: without its sender, it takes the stub that it ships itself."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino

    return openvino


def write_openvino(onnx_file: Path, spec: ModelSpec, path: Path, *, fp16_weights: bool) -> None:
    """Write model.xml and model.bin from an ONNX file.

    Args:
        onnx_file: the network.
        spec: goes into model.xml.
        path: model.xml; model.bin comes beside it.
        fp16_weights: store the weights in half precision.
    """
    ov = import_openvino()
    model = ov.Core().read_model(str(onnx_file))
    use_subpixels(model)
    model.set_rt_info(spec.model_dump_json(), list(SPEC_RT_INFO))
    with report_failed_write(path):
        ov.save_model(model, str(path), compress_to_fp16=fp16_weights)


def _quantise(model: Any, samples: Sequence[NDArray[np.float32]]) -> Any:
    import_openvino()  # first, so that its sender of statistics is not there for NNCF either
    import nncf

    nncf.set_log_level(logging.ERROR)
    # Activations may be unequally spread around zero, as they are behind most activation functions but ReLU.
    preset = nncf.QuantizationPreset.MIXED
    # NNCF shows progress of its own, on the output that is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(model, nncf.Dataset(list(samples)), preset=preset, subset_size=len(samples))
