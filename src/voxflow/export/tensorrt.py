"""Owns building TensorRT engines from ONNX; written against the Python API of TensorRT 10 and 11."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.engines import built_for, is_local, onnx_operators, sidecar
from voxflow.errors import VoxflowError
from voxflow.export.formats import INPUT_NAME, example_input
from voxflow.files import atomic_path, write_json

if TYPE_CHECKING:
    from voxflow.export.options import ExportOptions
    from voxflow.spec import ModelSpec

FIRST_ALWAYS_TYPED = 11


def write_tensorrt(onnx_file: Path, spec: ModelSpec, path: Path, options: ExportOptions) -> None:
    """Write model.engine, and model.engine.json that names what it is tied to.

    Types are those of the ONNX file (a strongly typed network), TF32 is off, so that logits stay torch's.

    Raises:
        VoxflowError: TensorRT can't parse the file or build an engine.
    """
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(_network_flags(tensorrt))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = "; ".join(str(parser.get_error(n)) for n in range(parser.num_errors))
        raise VoxflowError(f"TensorRT can't parse the ONNX file: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, options.tensorrt_workspace_mb * 2**20)
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, network, spec, options))
    timings = timing_cache_file(built_for())
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        # A damaged file, or one of another driver: begin anew, and write over it below.
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise VoxflowError("TensorRT built no engine; its own log says why")
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(plan))
    # An engine is none the worse where the user's cache folder can't be written.
    with suppress(OSError), atomic_path(timings) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    described = {"spec": spec.model_dump(mode="json"), "is_local": is_local(onnx_operators(onnx_file))}
    write_json(sidecar(path), described | {"built_for": built_for()})


def timing_cache_file(tied_to: dict[str, str]) -> Path:
    """Where the kernels' timings on one GPU by one version are kept, so that the next build need not take them."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxflow"
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in tied_to.values())
    return folder / f"tensorrt-{name}.timings"


def _network_flags(tensorrt: Any) -> int:
    """Ask for strong typing by name where it is not yet the only way (before TensorRT 11)."""
    if int(str(tensorrt.__version__).partition(".")[0]) >= FIRST_ALWAYS_TYPED:
        return 0
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _profile(builder: Any, network: Any, spec: ModelSpec, options: ExportOptions) -> Any:
    """Sizes from one window to a few; an axis that the ONNX file fixes stays as it is."""
    window = tuple(example_input(spec).shape)[2:]
    stated = tuple(network.get_input(0).shape)
    largest = tuple(side * options.tensorrt_scale for side in window)

    def fitted(batch: int, space: tuple[int, ...]) -> tuple[int, ...]:
        wanted = (batch, spec.in_channels, *space)
        return tuple(fixed if fixed > 0 else asked for fixed, asked in zip(stated, wanted, strict=True))

    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, fitted(1, window), fitted(1, window), fitted(options.tensorrt_batch, largest))
    return profile
