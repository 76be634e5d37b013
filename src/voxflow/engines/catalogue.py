"""The catalogue of engines, and the choice between them: everyone who needs an engine, or its file, asks here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator
from pydantic_core import PydanticKnownError

from voxflow.engines.onnxruntime import OnnxRuntimeKind
from voxflow.engines.openvino import OpenVinoKind
from voxflow.engines.tensorrt import TensorRtKind
from voxflow.engines.tensorrt_rtx import TensorRtRtxKind
from voxflow.engines.torch import TorchKind
from voxflow.engines.torchscript import TorchScriptKind
from voxflow.errors import DataError, InputError, MissingDependencyError
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from voxflow.engines.protocol import Engine, EngineKind

# From the reference to what is fastest on a processor. "auto" tries them from the last one to the first.
CATALOGUE: list[EngineKind] = [
    TorchKind(),
    TorchScriptKind(),
    OnnxRuntimeKind(),
    OpenVinoKind(),
    TensorRtRtxKind(),
    TensorRtKind(),
]


def list_engine_kinds() -> tuple[EngineKind, ...]:
    """List all engines, from the reference on.

    Example:
        >>> [kind.file for kind in list_engine_kinds()]
        ['model.pt', 'model.ts', 'model.onnx', 'model.xml', 'model.rtx.engine', 'model.engine']
    """
    return tuple(CATALOGUE)


def list_exported_kinds(formats: Iterable[str] | None = None) -> tuple[EngineKind, ...]:
    """List the engines that a file is exported for.

    Args:
        formats: as ``engines:`` of the stage export names them, in whose order they come; None: all, from the reference
            on.
    """
    by_format = {kind.format: kind for kind in CATALOGUE if kind.format}
    return tuple(by_format.values()) if formats is None else tuple(by_format[name] for name in formats)


def get_engine_kind(name: str) -> EngineKind:
    """Return the engine of a name.

    Raises:
        KeyError: the catalogue has none.

    Example:
        >>> get_engine_kind("openvino").title
        'OpenVINO'
    """
    return {kind.name: kind for kind in CATALOGUE}[name]


def find_kind_of_file(path: Path) -> EngineKind | None:
    """Return the engine that runs a file, by the file's ending; None: no engine does.

    Example:
        >>> from pathlib import Path
        >>> find_kind_of_file(Path("models/model.fzn.onnx")).name
        'onnxruntime'
    """
    kinds = [kind for kind in CATALOGUE if path.name.endswith(kind.suffix)]
    return max(kinds, key=lambda kind: len(kind.suffix), default=None)


def list_model_files(model: Path, name: str) -> tuple[Path, ...]:
    """List the files that an engine reads when it opens a model.

    Args:
        model: a model file, or a folder of exported models.
        name: the engine's.
    """
    kind = get_engine_kind(name)
    file = model / kind.file if model.is_dir() else model
    return (file, *(path for path in kind.list_sidecars(file) if path.is_file()))


def is_machine_bound(file: Path) -> bool:
    """Tell whether a file is of no use on another machine, and so is not registered.

    Example:
        >>> from pathlib import Path
        >>> is_machine_bound(Path("model.engine")), is_machine_bound(Path("model.rtx.engine"))
        (True, False)
    """
    kind = find_kind_of_file(file)
    return kind is not None and not kind.is_portable


def identifies_model(file: Path) -> bool:
    """Tell whether a file's bytes tell one model from another.

    A TensorRT engine's do not: two builds of one network differ; nor does the description beside it.

    Example:
        >>> from pathlib import Path
        >>> [identifies_model(Path(name)) for name in ("model.onnx", "model.rtx.engine", "model.rtx.engine.json")]
        [True, False, False]
    """
    kind = find_kind_of_file(file.with_name(file.name.removesuffix(".json")))
    return kind is None or (kind.is_portable and kind.is_reproducible)


def rank_kinds() -> tuple[EngineKind, ...]:
    """List the engines in the order that "auto" tries them on this machine.

    What computes on a GPU comes before what computes on the processor, and else what stands last in the catalogue.
    """
    uses_gpu = {kind: kind.uses_gpu() for kind in CATALOGUE}
    return tuple(kind for on_gpu in (True, False) for kind in reversed(CATALOGUE) if uses_gpu[kind] == on_gpu)


def open_engine(path: Path, engine: EngineChoice = "auto") -> Engine:
    """Load a model.

    Args:
        path: a model file, or a folder of exported models.
        engine: which engine; "auto" takes, of those whose file is there and that can run here, the first in the order
            of :func:`rank_kinds`: without a GPU openvino, onnxruntime, torchscript, torch. A TensorRT engine of
            another GPU or version is passed over with a line. "torch-bf16" runs torch's file in bfloat16,
            "torch-compiled" compiles it when it first runs.

    Raises:
        DataError: no such file, or the file holds no Voxflow model.
        InputError: the engine does not read this kind of file.
        MissingDependencyError: the engine asked for is not installed.
    """
    if not path.exists():
        raise DataError("no such model file or folder", path=path)
    candidates = _find_files(path)
    if engine != "auto":
        return _open_chosen(engine, candidates, path)
    reasons = []
    for kind, file in candidates.items():
        reason = explain_unusable(kind, file)
        if reason is None:
            return kind.open_fastest(file)
        reasons.append(f"{kind.name}: {reason}")
    raise InputError(f"no usable model; {'; '.join(reasons) or 'expected ' + _join_names(rank_kinds())}", path=path)


def explain_unusable(kind: EngineKind, file: Path) -> str | None:
    """Say why a file can't be run on this machine; None when it can.

    Where the engine is there and the very file does not fit, a line tells so: another engine is slower.
    """
    reason = kind.explain_unavailable()
    if reason is None:
        reason = kind.explain_unfit(file)
        if reason is not None:
            say(f"{file}: passed over: {reason}")
    return reason


def _open_chosen(choice: str, candidates: dict[EngineKind, Path], path: Path) -> Engine:
    """Load the model of the engine, or of the variant of one, that was asked for."""
    kind = next((kind for kind in candidates if choice in (kind.name, *kind.variants)), None)
    if kind is None:
        raise InputError(f"no model for the engine {choice!r}; there is {_join_names(candidates)}", path=path)
    reason = kind.explain_unavailable()
    if reason is not None:
        raise MissingDependencyError(f"the engine {kind.name} can't run here: {reason}")
    return kind.open(candidates[kind], choice if choice in kind.variants else None)


def _find_files(path: Path) -> dict[EngineKind, Path]:
    """The model files that a path stands for, in the order that "auto" tries them."""
    if path.is_dir():
        return {kind: path / kind.file for kind in rank_kinds() if (path / kind.file).is_file()}
    kind = find_kind_of_file(path)
    if kind is None:
        endings = ", ".join(kind.suffix for kind in rank_kinds())
        raise InputError(f"a model file ends in one of {endings}", path=path)
    return {kind: path}


def _join_names(kinds: Iterable[EngineKind]) -> str:
    return ", ".join(kind.name for kind in kinds) or "none"


def _check_choice(value: object) -> str:
    return _check_member(value, ["auto", *(name for kind in CATALOGUE for name in (kind.name, *kind.variants))])


def _check_format(value: object) -> str:
    return _check_member(value, [kind.format for kind in list_exported_kinds() if kind.format])


def _check_member(value: object, allowed: list[str]) -> str:
    """Accept one of a few words; else the error is the one that pydantic has for a Literal."""
    if isinstance(value, str) and value in allowed:
        return value
    *words, last = [repr(word) for word in allowed]
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(words)} or {last}"})


# What a configuration may say: "auto", an engine of the catalogue, or a variant of one.
EngineChoice = Annotated[str, PlainValidator(_check_choice)]
# What a configuration may ask to be exported: the formats of the catalogue.
ExportFormat = Annotated[str, PlainValidator(_check_format)]
