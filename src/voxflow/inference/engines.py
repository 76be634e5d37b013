"""Owns what runs a model: one small protocol, and the choice between the engines that can fulfil it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, cast, runtime_checkable

from voxflow.errors import DataError, InputError, MissingDependencyError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from voxflow.spec import ModelSpec

EngineName = Literal["torch", "torchscript", "onnxruntime", "openvino", "tensorrt"]
# Other ways to run model.pt; never taken unasked, since no file of theirs passed the parity gate.
TorchWay = Literal["torch-bf16", "torch-compiled"]
EngineChoice = Literal[
    "auto", "torch", "torch-bf16", "torch-compiled", "torchscript", "onnxruntime", "openvino", "tensorrt"
]

# The file of each engine inside a folder of exported models, fastest engine first: the order that "auto" tries.
MODEL_FILES: dict[EngineName, str] = {
    "tensorrt": "model.engine",
    "openvino": "model.xml",
    "onnxruntime": "model.onnx",
    "torchscript": "model.ts",
    "torch": "model.pt",
}


class Engine(Protocol):
    """A loaded model.

    Attributes:
        name: which engine it is.
        spec: what the model file says of itself.
        smallest: least spatial size (i, j, k) or (rows, columns) of an input; None: no bound but the divisor.
        largest: greatest one; equal to ``smallest`` where the file allows one size only.
        is_local: whether a voxel's answer depends on a bounded neighbourhood alone, as with plain convolutions and
            batch norm; instance norm, say, averages over the window, so that a larger one changes every answer.
        batch: how many windows it takes at a time where memory allows; 1 where more are no faster.
    """

    @property
    def name(self) -> EngineName: ...  # noqa: D102

    @property
    def spec(self) -> ModelSpec: ...  # noqa: D102

    @property
    def smallest(self) -> tuple[int, ...] | None: ...  # noqa: D102

    @property
    def is_local(self) -> bool: ...  # noqa: D102

    @property
    def largest(self) -> tuple[int, ...] | None: ...  # noqa: D102

    @property
    def batch(self) -> int: ...  # noqa: D102

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (batch, channel, *space) to logits: (batch, class, *space), or (batch, class) for classification."""


@runtime_checkable
class Forewarned(Protocol):
    """An engine that gains from knowing what will come."""

    def expect(self, shape: tuple[int, ...]) -> None:
        """Get ready for inputs (batch, channel, *space) of a shape, from another thread; returns at once."""


def open_engine(path: Path, engine: EngineChoice = "auto") -> Engine:
    """Load a model.

    Args:
        path: a model file, or a folder of exported models (names as in :data:`MODEL_FILES`).
        engine: which engine; "auto" takes, of those whose file is there and whose package is installed, the
            first of tensorrt, openvino, onnxruntime, torchscript, torch. A TensorRT engine of another GPU or version
            is passed over with a line. "torch-bf16" runs torch's file in bfloat16,
            "torch-compiled" compiles it when it first runs.

    Raises:
        DataError: no such file, or the file holds no Voxflow model.
        InputError: the engine does not read this kind of file.
        MissingDependencyError: the engine asked for is not installed.
    """
    if not path.exists():
        raise DataError("no such model file or folder", path=path)
    candidates = _candidates(path)
    if engine != "auto":
        return _open_named(engine, candidates, path)
    reasons = []
    for name, file in candidates.items():
        reason = unusable(name) or unfit(name, file)
        if reason is None:
            return _OPENERS[name](file)
        reasons.append(f"{name}: {reason}")
    raise InputError(f"no usable model; {'; '.join(reasons) or 'expected ' + _listed(MODEL_FILES)}", path=path)


def _open_named(engine: EngineName | TorchWay, candidates: dict[EngineName, Path], path: Path) -> Engine:
    """Load the model that a named engine runs."""
    by_torch = engine in {"torch-bf16", "torch-compiled"}
    name = cast("EngineName", "torch" if by_torch else engine)
    if name not in candidates:
        raise InputError(f"no model for the engine {engine!r}; there is {_listed(candidates)}", path=path)
    if not by_torch:
        return _OPENERS[name](candidates[name])
    from voxflow.inference.runtimes import TorchEngine

    return TorchEngine(candidates[name], cast("TorchWay", engine))


def unusable(name: EngineName) -> str | None:
    """Why an engine can't run on this machine; None when it can."""
    if name == "tensorrt":
        from voxflow.inference.tensorrt import unusable_reason

        return unusable_reason()
    package = {"onnxruntime": "onnxruntime", "openvino": "openvino"}.get(name, "torch")
    return None if find_spec(package) else f"{package} is not installed (pip install {package})"


def unfit(name: EngineName, file: Path) -> str | None:
    """Why this very file can't run on this machine, which a person should hear of, since another engine is slower."""
    if name != "tensorrt":
        return None
    from voxflow.inference.tensorrt import Description

    try:
        reason = Description.beside(file).elsewhere
    except DataError as error:
        reason = str(error)
    if reason is not None:
        say(f"{file}: passed over: {reason}")
    return reason


def _candidates(path: Path) -> dict[EngineName, Path]:
    if path.is_dir():
        return {name: path / file for name, file in MODEL_FILES.items() if (path / file).is_file()}
    suffixes = {file.rpartition(".")[2]: name for name, file in MODEL_FILES.items()}
    name = suffixes.get(path.suffix.lstrip("."))
    if name is None:
        raise InputError(f"a model file ends in one of {', '.join('.' + s for s in suffixes)}", path=path)
    return {name: path}


def _listed(names: dict[EngineName, Path] | dict[EngineName, str]) -> str:
    return ", ".join(names) or "none"


def _opener(name: EngineName) -> Callable[[Path], Engine]:
    def opened(path: Path) -> Engine:
        reason = unusable(name)
        if reason is not None:
            raise MissingDependencyError(f"the engine {name} can't run here: {reason}")
        from voxflow.inference import runtimes
        from voxflow.inference.tensorrt import TensorRtEngine

        classes: dict[EngineName, Callable[[Path], Engine]] = {
            "torch": runtimes.TorchEngine,
            "torchscript": runtimes.TorchScriptEngine,
            "onnxruntime": runtimes.OnnxRuntimeEngine,
            "openvino": runtimes.OpenVinoEngine,
            "tensorrt": TensorRtEngine,
        }
        return classes[name](path)

    return opened


_OPENERS: dict[EngineName, Callable[[Path], Engine]] = {name: _opener(name) for name in MODEL_FILES}
