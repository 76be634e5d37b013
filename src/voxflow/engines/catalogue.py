"""Owns the list of engines and the choice between them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from voxflow.errors import DataError, InputError, MissingDependencyError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxflow.engines.protocol import Engine, EngineChoice, EngineName, TorchWay


# The file of each engine inside a folder of exported models, fastest engine first: the order that "auto" tries.
MODEL_FILES: dict[EngineName, str] = {
    "tensorrt": "model.engine",
    "openvino": "model.xml",
    "onnxruntime": "model.onnx",
    "torchscript": "model.ts",
    "torch": "model.pt",
}


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
    from voxflow.engines.torch import TorchEngine

    return TorchEngine(candidates[name], cast("TorchWay", engine))


def unusable(name: EngineName) -> str | None:
    """Why an engine can't run on this machine; None when it can."""
    if name == "tensorrt":
        from voxflow.engines.tensorrt import unusable_reason

        return unusable_reason()
    package = {"onnxruntime": "onnxruntime", "openvino": "openvino"}.get(name, "torch")
    return None if find_spec(package) else f"{package} is not installed (pip install {package})"


def unfit(name: EngineName, file: Path) -> str | None:
    """Why this very file can't run on this machine, which a person should hear of, since another engine is slower."""
    if name != "tensorrt":
        return None
    from voxflow.engines.tensorrt import Description

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
        from voxflow.engines.onnxruntime import OnnxRuntimeEngine
        from voxflow.engines.openvino import OpenVinoEngine
        from voxflow.engines.tensorrt import TensorRtEngine
        from voxflow.engines.torch import TorchEngine
        from voxflow.engines.torchscript import TorchScriptEngine

        classes: dict[EngineName, Callable[[Path], Engine]] = {
            "torch": TorchEngine,
            "torchscript": TorchScriptEngine,
            "onnxruntime": OnnxRuntimeEngine,
            "openvino": OpenVinoEngine,
            "tensorrt": TensorRtEngine,
        }
        return classes[name](path)

    return opened


_OPENERS: dict[EngineName, Callable[[Path], Engine]] = {name: _opener(name) for name in MODEL_FILES}
