"""The engine tensorrt: model.engine on an NVIDIA GPU; written against the Python API of TensorRT 10 and 11.

An engine file belongs to one TensorRT version and one GPU model, so that ``model.engine.json`` beside it names
both, with the spec. :mod:`voxflow.engines.tensorrt_rtx` shares what both libraries have in common.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from voxflow.components import find_custom_folder
from voxflow.engines.files import cache_folder, is_local, list_onnx_operators
from voxflow.engines.first_use import Limits, open_reference
from voxflow.engines.half import write_half
from voxflow.engines.protocol import Engine, EngineKind
from voxflow.engines.source import INPUT_NAME, OUTPUT_NAME, make_example_input
from voxflow.engines.torch import enter_gpu, run_on_arrays
from voxflow.errors import DataError, VoxflowError
from voxflow.files import atomic_path, write_json
from voxflow.machine import explain_no_gpu, find_gpu, read_gpu_name
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from voxflow.engines.options import WriteOptions
    from voxflow.engines.source import ExportSource

# From this version on every network is strongly typed, and the flag that asked for it is gone.
FIRST_ALWAYS_TYPED = 11


class TensorRtKind(EngineKind):
    """Runs a network that was built for this machine's GPU."""

    name: ClassVar[str] = "tensorrt"
    title: ClassVar[str] = "TensorRT"
    file: ClassVar[str] = "model.engine"
    format: ClassVar[str | None] = "tensorrt"
    package: ClassVar[str] = "tensorrt"
    is_optimised: ClassVar[bool] = True
    is_portable: ClassVar[bool] = False

    @override
    def explain_unavailable(self) -> str | None:
        try:
            import tensorrt  # noqa: F401
        except (ImportError, OSError):
            return "tensorrt is not installed (pip install 'voxflow[tensorrt]'; it needs an NVIDIA GPU and CUDA 13)"
        return explain_no_gpu()

    @override
    def explain_unfit(self, file: Path) -> str | None:
        try:
            return EngineDescription.read_beside(file).explain_mismatch(read_platform())
        except DataError as error:
            return str(error)

    @override
    def uses_gpu(self) -> bool:
        return True

    @override
    def list_sidecars(self, file: Path) -> tuple[Path, ...]:
        return (description_path(file),)

    @override
    def open(self, file: Path, variant: str | None = None) -> Engine:
        return TensorRtEngine(file)

    @override
    def write(self, source: ExportSource) -> None:
        self.build(source.onnx_file, source.spec, source.folder / self.file, source.options)

    def build(
        self, onnx_file: Path, spec: ModelSpec, path: Path, options: WriteOptions, *, is_reduced: bool = False
    ) -> None:
        """Write an engine file of this kind.

        Args:
            onnx_file: the network.
            spec: goes into the description.
            path: of the engine file.
            options: as :func:`write_tensorrt` takes them.
            is_reduced: whether the network computes in less precision than float32.

        Raises:
            VoxflowError: the library can't parse the file or build an engine.
        """
        write_tensorrt(onnx_file, spec, path, options)

    @override
    def read_precision(self, options: WriteOptions) -> str:
        return options.tensorrt_precision

    @override
    def explain_no_precision(self, precision: str, source: ExportSource) -> str | None:
        return None if source.onnx_file.is_file() else "the ONNX file that it is made of was not published"

    @override
    def write_reduced(
        self, source: ExportSource, file: Path, precision: str, samples: Sequence[NDArray[np.float32]]
    ) -> None:
        """Write an engine in half precision; a strongly typed network computes in what its ONNX file says."""
        half = file.with_suffix(".onnx")
        write_half(source.onnx_file, half)
        self.build(half, source.spec, file, source.options, is_reduced=True)


class EngineDescription(BaseModel):
    """What stands in the file beside an engine.

    Attributes:
        spec: what the model takes and means.
        is_local: see :class:`voxflow.engines.Engine`.
        built_for: the version of TensorRT that it needs, and the GPU where it needs one model of GPU.
        limits: how far it may be from the ONNX file at its first use; None: it was compared where it was built.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: ModelSpec
    is_local: bool
    built_for: dict[str, str]
    limits: Limits | None = None

    @classmethod
    def read_beside(cls, path: Path) -> EngineDescription:
        """Read the description of an engine file.

        Raises:
            DataError: it is not there, or no such description.
        """
        file = description_path(path)
        if not file.is_file():
            raise DataError("the engine's description is missing beside it", path=file)
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError("no description of an engine; export it again", path=file) from error

    def explain_mismatch(self, platform: dict[str, str]) -> str | None:
        """Say why the engine can't run on a platform; None when it can.

        Args:
            platform: what this machine has, by the keys of ``built_for``.
        """
        if self.built_for == platform:
            return None
        return f"built for {_join_words(self.built_for)}, this machine has {_join_words(platform)}; export it here"


class TensorRtEngine(Engine):
    """Runs model.engine on the GPU; torch holds the device memory."""

    name = TensorRtKind.name
    device = "cuda"

    def __init__(self, path: Path) -> None:
        bindings, platform = self._import_bindings()
        description = EngineDescription.read_beside(path)
        reason = description.explain_mismatch(platform)
        if reason is not None:
            raise DataError(reason, path=path)
        self.spec = description.spec.with_custom_folder(find_custom_folder(path))
        self.is_local = description.is_local
        self._path = path
        self.device = find_gpu() or self.device
        # The logger and the runtime must outlive the engine.
        self._logger = bindings.Logger(bindings.Logger.WARNING)
        with enter_gpu(self.device):
            self._runtime = bindings.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
            if self._engine is None:
                raise DataError("TensorRT can't read this engine", path=path)
            self._context = self._create_context()
        if self._context is None:
            raise RuntimeError("TensorRT is out of memory for the engine's activations")
        least, _, most = self._engine.get_tensor_profile_shape(INPUT_NAME, 0)
        self.smallest, self.largest = tuple(least)[2:], tuple(most)[2:]
        self.batch = int(most[0])

    def _import_bindings(self) -> tuple[Any, dict[str, str]]:
        """Import TensorRT's module, and read what an engine file must have been built for."""
        import tensorrt

        return tensorrt, read_platform()

    def _create_context(self) -> Any:
        return self._engine.create_execution_context()

    @override
    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_on_arrays(self, batch)

    @override
    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        with enter_gpu(self.device):
            return self._run(batch.contiguous())

    @override
    def on_processor(self) -> Engine:
        """Open the ONNX file beside the engine; see :meth:`voxflow.engines.Engine.on_processor`."""
        return open_reference(self._path, self.spec)

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        import torch

        shape = tuple(image.shape)
        self._check(self._context.set_input_shape(INPUT_NAME, shape), f"input of shape {shape}")
        shape = tuple(self._context.get_tensor_shape(OUTPUT_NAME))
        logits = torch.empty(shape, dtype=torch.float32, device=self.device)
        self._context.set_tensor_address(INPUT_NAME, image.data_ptr())
        self._context.set_tensor_address(OUTPUT_NAME, logits.data_ptr())
        stream = torch.cuda.current_stream()
        self._check(self._context.execute_async_v3(stream.cuda_stream), "execution")
        stream.synchronize()
        return logits

    def _check(self, is_accepted: Any, step: str) -> None:
        if not is_accepted:
            raise VoxflowError(f"TensorRT refused: {step}; sizes from {self.smallest} to {self.largest} fit")


def description_path(path: Path) -> Path:
    """Return the JSON file that describes an engine file, beside it."""
    return path.with_name(path.name + ".json")


def read_platform() -> dict[str, str]:
    """Read what an engine file that is built here is bound to: TensorRT's version and the GPU's name."""
    import tensorrt

    return {"tensorrt": str(tensorrt.__version__), "gpu": read_gpu_name()}


def write_tensorrt(onnx_file: Path, spec: ModelSpec, path: Path, options: WriteOptions) -> None:
    """Write model.engine, and model.engine.json that names what it is bound to.

    Types are those of the ONNX file (a strongly typed network), TF32 is off, so that logits stay torch's.

    Args:
        onnx_file: the network.
        spec: goes into the description.
        path: model.engine.
        options: greatest batch and size, and memory for the search of kernels.

    Raises:
        VoxflowError: TensorRT can't parse the file or build an engine.
    """
    import tensorrt

    platform = read_platform()
    build = EngineBuild(tensorrt, onnx_file, spec, options, network_flags=_network_flags(tensorrt))
    timings = timing_cache_path(platform)
    _use_timings(build.config, timings)
    build.write(path, platform)
    # An engine is none the worse where the user's cache folder can't be written.
    with suppress(OSError), atomic_path(timings) as temporary:
        temporary.write_bytes(bytes(build.config.get_timing_cache().serialize()))


class EngineBuild:
    """The build of one engine file, by TensorRT or by TensorRT-RTX.

    Args:
        bindings: the library's Python module.
        onnx_file: the network.
        spec: goes into the description.
        options: greatest batch and size, and memory for the search of kernels.
        network_flags: of the library's INetworkDefinition.

    Raises:
        VoxflowError: the library can't parse the file.
    """

    def __init__(
        self, bindings: Any, onnx_file: Path, spec: ModelSpec, options: WriteOptions, *, network_flags: int = 0
    ) -> None:
        logger = bindings.Logger(bindings.Logger.WARNING)
        self._builder = bindings.Builder(logger)
        self._network = self._builder.create_network(network_flags)
        parser = bindings.OnnxParser(self._network, logger)
        if not parser.parse_from_file(str(onnx_file)):
            reasons = "; ".join(str(parser.get_error(n)) for n in range(parser.num_errors))
            raise VoxflowError(f"TensorRT can't parse the ONNX file: {reasons}")
        self.config = self._builder.create_builder_config()
        self.config.set_memory_pool_limit(bindings.MemoryPoolType.WORKSPACE, options.tensorrt_workspace_mb * 2**20)
        self.config.clear_flag(bindings.BuilderFlag.TF32)
        self.config.add_optimization_profile(_size_profile(self._builder, self._network, spec, options))
        # TensorRT reads weights of the parser's own copy, and logs, while it builds.
        self._logger, self._parser = logger, parser
        self._spec, self._is_local = spec, is_local(list_onnx_operators(onnx_file))

    def write(self, path: Path, built_for: dict[str, str], limits: Limits | None = None) -> None:
        """Build the engine, and write it and its description.

        Args:
            path: of the engine file.
            built_for: as in :class:`EngineDescription`.
            limits: as there.

        Raises:
            VoxflowError: no engine came of it.
        """
        plan = self._builder.build_serialized_network(self._network, self.config)
        if plan is None:
            raise VoxflowError("TensorRT built no engine; its own log says why")
        with atomic_path(path) as temporary:
            temporary.write_bytes(bytes(plan))
        description = EngineDescription(
            spec=self._spec, is_local=self._is_local, built_for=built_for, limits=limits
        ).model_dump(mode="json", exclude=None if limits else {"limits"})
        write_json(description_path(path), description)


def _use_timings(config: Any, timings: Path) -> None:
    """Give a build the kernels' timings that an earlier one took."""
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        # A damaged file, or one of another driver: begin anew, and write over it afterwards.
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def timing_cache_path(platform: dict[str, str]) -> Path:
    """Return where the kernels' timings on a platform are kept, so that the next build need not take them."""
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in platform.values())
    return cache_folder() / f"tensorrt-{name}.timings"


def _network_flags(tensorrt: Any) -> int:
    """Ask for strong typing by name where it is not yet the only way (before TensorRT 11)."""
    if int(str(tensorrt.__version__).partition(".")[0]) >= FIRST_ALWAYS_TYPED:
        return 0
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _size_profile(builder: Any, network: Any, spec: ModelSpec, options: WriteOptions) -> Any:
    """Sizes from one window to a few; an axis that the ONNX file fixes stays as it is."""
    window = tuple(make_example_input(spec).shape)[2:]
    axes = tuple(network.get_input(0).shape)
    largest = tuple(side * options.tensorrt_scale for side in window)

    def fit(batch: int, space: tuple[int, ...]) -> tuple[int, ...]:
        shape = (batch, spec.in_channels, *space)
        return tuple(axis if axis > 0 else side for axis, side in zip(axes, shape, strict=True))

    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, fit(1, window), fit(1, window), fit(options.tensorrt_batch, largest))
    return profile


def _join_words(platform: dict[str, str]) -> str:
    return " and ".join(f"{part} {name}" for part, name in platform.items())
