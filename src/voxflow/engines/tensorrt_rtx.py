"""The engine tensorrt_rtx: model.rtx.engine, built on any machine, run on NVIDIA GPUs of the RTX family.

TensorRT-RTX builds without a GPU, for compute capability 7.5, 8.0, 8.6, 8.9 and 12; the last step of compilation is
done where the engine runs, and kept in the user's cache folder. It refuses other GPUs, such as an H100 (9.0), for
which the engine tensorrt is made. An engine file belongs to one version of the library.

Written against the bindings 1.7; building runs in the tests, running needs a GPU.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from voxflow.engines.files import cache_folder
from voxflow.engines.first_use import Limits, compare_at_first_use, explain_record, find_reference, name_record
from voxflow.engines.tensorrt import EngineBuild, EngineDescription, TensorRtEngine, TensorRtKind
from voxflow.engines.torch import enter_gpu
from voxflow.errors import DataError
from voxflow.files import atomic_path
from voxflow.machine import explain_no_gpu, find_gpu, read_gpu_driver, read_gpu_name

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from voxflow.engines.options import WriteOptions
    from voxflow.engines.protocol import Engine
    from voxflow.spec import ModelSpec

INSTALL = "pip install 'voxflow[tensorrt-rtx]'"


class TensorRtRtxKind(TensorRtKind):
    """Runs a network that was built ahead of time for any GPU of the RTX family."""

    name: ClassVar[str] = "tensorrt_rtx"
    title: ClassVar[str] = "TensorRT-RTX"
    file: ClassVar[str] = "model.rtx.engine"
    format: ClassVar[str | None] = "tensorrt_rtx"
    package: ClassVar[str] = "tensorrt_rtx_bindings"
    is_portable: ClassVar[bool] = True
    is_reproducible: ClassVar[bool] = False
    is_compared_at_first_use: ClassVar[bool] = True

    @override
    def explain_unavailable(self) -> str | None:
        return explain_no_gpu() or self.explain_unwritable()

    @override
    def explain_unwritable(self) -> str | None:
        try:
            import tensorrt_rtx_bindings  # noqa: F401
        except (ImportError, OSError):
            return f"TensorRT-RTX is not installed ({INSTALL}; Linux or Windows on x86-64)"
        return None

    @override
    def explain_unfit(self, file: Path) -> str | None:
        try:
            reason = EngineDescription.read_beside(file).explain_mismatch(_read_version()) or _explain_refusal(file)
        except DataError as error:
            return str(error)
        fault = explain_record(_name_record(file), _read_place())
        if fault == "" and find_reference(file) is None:
            fault = "no ONNX file lies beside it to compare it with at its first use"
        return reason or fault or None

    @override
    def open(self, file: Path, variant: str | None = None) -> Engine:
        engine = self.open_uncompared(file)
        limits = EngineDescription.read_beside(file).limits
        if limits is None:
            raise DataError("the description beside it has no limits; export it again", path=file)
        return compare_at_first_use(engine, file, limits, _name_record(file), _read_place())

    @override
    def open_uncompared(self, file: Path) -> Engine:
        return TensorRtRtxEngine(file)

    @override
    def build(
        self, onnx_file: Path, spec: ModelSpec, path: Path, options: WriteOptions, *, is_reduced: bool = False
    ) -> None:
        write_tensorrt_rtx(onnx_file, spec, path, options, is_reduced=is_reduced)


class TensorRtRtxEngine(TensorRtEngine):
    """Runs model.rtx.engine on the GPU; kernels that were compiled for it are kept for the next process."""

    name = TensorRtRtxKind.name

    def __init__(self, path: Path) -> None:
        self._kernels = _kernel_cache_path(path)
        self._shapes: set[tuple[int, ...]] = set()
        super().__init__(path)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        logits = super().run_tensor(batch)
        if batch.shape not in self._shapes:
            # The first input of each shape compiles kernels.
            self._shapes.add(tuple(batch.shape))
            with suppress(OSError), atomic_path(self._kernels) as temporary:
                temporary.write_bytes(bytes(self._cache.serialize()))
        return logits

    @override
    def _import_bindings(self) -> tuple[Any, dict[str, str]]:
        import tensorrt_rtx_bindings

        return tensorrt_rtx_bindings, _read_version()

    @override
    def _create_context(self) -> Any:
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        with suppress(OSError):
            # Of another GPU or driver it is not taken, and written anew.
            self._cache.deserialize(self._kernels.read_bytes())
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)


def write_tensorrt_rtx(
    onnx_file: Path, spec: ModelSpec, path: Path, options: WriteOptions, *, is_reduced: bool = False
) -> None:
    """Write model.rtx.engine, and model.rtx.engine.json that names the version it is bound to; no GPU is needed.

    Types are those of the ONNX file (a strongly typed network), TF32 is off, so that logits stay torch's.

    Args:
        onnx_file: the network.
        spec: goes into the description.
        path: model.rtx.engine.
        options: greatest batch and size, and how far its answers may be from the ONNX file's.
        is_reduced: whether the ONNX file computes in less precision than float32.

    Raises:
        VoxflowError: TensorRT-RTX can't parse the file or build an engine.
    """
    import tensorrt_rtx_bindings as bindings

    flag = 1 << int(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    limits = (
        Limits(max_abs_difference=None, min_dice=options.reduced_min_dice)
        if is_reduced
        else Limits(max_abs_difference=options.max_abs_difference, min_dice=options.min_dice)
    )
    EngineBuild(bindings, onnx_file, spec, options, network_flags=flag).write(path, _read_version(), limits)


def _read_version() -> dict[str, str]:
    import tensorrt_rtx_bindings

    return {"tensorrt_rtx": str(tensorrt_rtx_bindings.__version__)}


def _read_place() -> dict[str, str]:
    """Read what a comparison holds for: the version, the GPU and its driver."""
    return _read_version() | {"gpu": read_gpu_name(), "driver": read_gpu_driver()}


def _name_record(file: Path) -> Path:
    return name_record(cache_folder(), file, _read_place())


def _explain_refusal(file: Path) -> str | None:
    """Ask TensorRT-RTX whether this machine's GPU and driver can run an engine; None when they can."""
    import tensorrt_rtx_bindings as bindings

    with enter_gpu(find_gpu()):
        runtime = bindings.Runtime(bindings.Logger(bindings.Logger.ERROR))
        validity, diagnostics = runtime.get_engine_validity(file.read_bytes())
    if validity != bindings.EngineValidity.INVALID:
        return None
    reasons = {
        bindings.EngineInvalidityDiagnostics.UNSUPPORTED_CC: "this GPU's compute capability; TensorRT itself serves it",
        bindings.EngineInvalidityDiagnostics.OLD_CUDA_DRIVER: "the GPU's driver, which is too old",
        bindings.EngineInvalidityDiagnostics.OLD_CUDA_RUNTIME: "the CUDA runtime, which is too old",
        bindings.EngineInvalidityDiagnostics.INSUFFICIENT_GPU_MEMORY: "the GPU's free memory, which is too small",
        bindings.EngineInvalidityDiagnostics.VERSION_MISMATCH: "its version; export the model again",
        bindings.EngineInvalidityDiagnostics.MALFORMED_ENGINE: "the file, which is damaged; export the model again",
    }
    causes = [reason for bit, reason in reasons.items() if int(diagnostics) & int(bit)]
    return f"TensorRT-RTX can't run it because of {' and '.join(causes) or 'an error of CUDA; its own log says which'}"


def _kernel_cache_path(path: Path) -> Path:
    """Where the kernels of one engine file are kept."""
    return cache_folder() / f"tensorrt_rtx-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.kernels"
