"""TensorRT without a GPU: its Python API by the names of the real bindings, and ONNX Runtime behind it.

``tensorrt_names.json`` holds what ``tensorrt_cu13_bindings`` says of its own classes, methods and arguments. A class
here that has more than that is an error, and so the code under test can call nothing that TensorRT does not have.
"""

from __future__ import annotations

import ctypes
import enum
import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text(encoding="utf-8"))


def _enum(name: str) -> Any:
    return enum.IntEnum(name, {member: number for number, member in enumerate(NAMES["enums"][name])})


BuilderFlag, NetworkDefinitionCreationFlag, MemoryPoolType = (
    _enum(name) for name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType")
)


def check_names(cls: Any) -> Any:
    """Hold a class against what the bindings have."""
    members = NAMES["classes"][cls.__name__]
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if name not in members:
            raise AttributeError(f"TensorRT's {cls.__name__} has no {name}")
        if inspect.isfunction(member) and list(inspect.signature(member).parameters)[1:] not in members[name]:
            raise AttributeError(f"TensorRT's {cls.__name__}.{name} takes {members[name]}")
    return cls


@check_names
class Logger:
    WARNING = 2

    def __init__(self, min_severity: int = 2) -> None:
        self._severity = min_severity


@check_names
class ITensor:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.__dict__["shape"] = shape


@check_names
class INetworkDefinition:
    def __init__(self) -> None:
        self._onnx = b""

    def get_input(self, index: int) -> ITensor:
        import onnx

        dims = onnx.load_from_string(self._onnx).graph.input[index].type.tensor_type.shape.dim
        return ITensor(tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in dims))


@check_names
class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        self._network = network
        self._errors: list[str] = [] if isinstance(logger, Logger) else ["no logger"]

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> str:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        self._network._onnx = Path(model).read_bytes()
        if not self._network._onnx.startswith(b"\x08"):
            self._errors.append("no ONNX")
        return not self._errors


@check_names
class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content + b"measured "


@check_names
class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self._shapes[input] = [min, opt, max]


@check_names
class IBuilderConfig:
    def __init__(self) -> None:
        self._cleared: set[Any] = set()
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def clear_flag(self, flag: Any) -> None:
        self._cleared.add(flag)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        damaged = serialized_timing_cache and not serialized_timing_cache.startswith(b"measured")
        return None if damaged else ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


@check_names
class Builder:
    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        built.flags = flags
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes:
        built.config, built.onnx = config, network._onnx
        (profile,) = config._profiles
        return json.dumps(profile._shapes).encode() + b"\n" + network._onnx


@check_names
class IExecutionContext:
    def __init__(self, session: Any, shapes: dict[str, Any]) -> None:
        self._session, self._profile = session, shapes
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._profile[name]
        self._shape = shape
        return all(low <= n <= high for low, n, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._answer(np.zeros(self._shape, np.float32)).shape if name == "logits" else self._shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        image = _memory(self._addresses["image"], self._shape)
        answer = self._answer(image)
        _memory(self._addresses["logits"], answer.shape)[...] = answer
        return bool(stream_handle == STREAM.cuda_stream)

    def _answer(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run(None, {"image": image})[0])


@check_names
class ICudaEngine:
    def __init__(self, session: Any, shapes: dict[str, Any]) -> None:
        self._session, self._shapes = session, shapes

    def create_execution_context(self, strategy: int = 0) -> IExecutionContext:
        return IExecutionContext(self._session, self._shapes)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        return list(self._shapes[name]) if profile_index == 0 else []


@check_names
class Runtime:
    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        import onnxruntime

        head, newline, model = serialized_engine.partition(b"\n")
        if not newline:
            return None
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return ICudaEngine(session, json.loads(head))


def _memory(address: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * math.prod(shape)).from_address(address)).reshape(shape)


__version__ = NAMES["version"]
STREAM = SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
# What the last build was told.
built = SimpleNamespace()
