"""The catalogue of engines, and the choice between them: everyone who needs an engine, or its file, asks here."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError, PydanticKnownError

from voxflow.engines.files import list_network_files
from voxflow.engines.networks import open_networks
from voxflow.engines.onnxruntime import OnnxRuntimeKind
from voxflow.engines.openvino import OpenVinoKind
from voxflow.engines.tensorrt import TensorRtKind
from voxflow.engines.tensorrt_rtx import TensorRtRtxKind
from voxflow.engines.torch import TorchKind, is_gpu
from voxflow.engines.torchscript import TorchScriptKind
from voxflow.errors import DataError, InputError, MissingDependencyError
from voxflow.machine import read_gpu_driver, read_gpu_name, release_gpu_memory, use_device
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from voxflow.engines.protocol import Engine, EngineKind

_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?", re.ASCII)

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
    """Return the engine of a name, or of the name of one of its variants.

    Raises:
        KeyError: the catalogue has none.

    Example:
        >>> get_engine_kind("openvino").title, get_engine_kind("torch-fp16").file
        ('OpenVINO', 'model.pt')
    """
    return {word: kind for kind in CATALOGUE for word in (kind.name, *kind.variants)}[name]


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
    return (file, *(path for path in kind.list_files(file) if path != file))


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


def describe_device(engine: Engine) -> str:
    """Say what a model computes on, such as "cpu" or "NVIDIA H100 (cuda:1)"."""
    device = engine.device
    return f"{read_gpu_name(device)} ({device})" if device is not None and is_gpu(device) else "cpu"


def read_place(engine: Engine) -> dict[str, str]:
    """Read what a comparison of an engine is made on.

    Returns:
        The device, the GPU's driver, and the versions of what computes, such as {"device": "cpu", "torch": "2.13.0"}.
    """
    place = {"device": describe_device(engine)}
    if is_gpu(engine.device):
        place["driver"] = read_gpu_driver()
    for package in (get_engine_kind(engine.name).package, "torch"):
        # An engine that is open has imported it; what follows a dash tells a commit.
        version = getattr(sys.modules.get(package), "__version__", "")
        place |= {package: str(version).partition("-")[0]} if version else {}
    return place


def rank_kinds() -> tuple[EngineKind, ...]:
    """List the engines in the order that "auto" tries them on this machine.

    What computes on a GPU comes before what computes on the processor, and else what stands last in the catalogue.
    """
    uses_gpu = {kind: kind.uses_gpu() for kind in CATALOGUE}
    return tuple(kind for on_gpu in (True, False) for kind in reversed(CATALOGUE) if uses_gpu[kind] == on_gpu)


def open_engine(path: Path, engine: EngineChoice = "auto", device: Device | None = None) -> Engine:
    """Load a model.

    Where the GPU has no memory for it, it is loaded on the processor, and a line tells so.

    Args:
        path: a model file, or a folder of exported models.
        engine: which engine; "auto" takes, of those whose file is there and that can run here, the first in the order
            of :func:`rank_kinds`: without a GPU openvino, onnxruntime, torchscript, torch. A TensorRT engine of
            another GPU or version is passed over with a line. "torch-bf16" runs torch's file in bfloat16,
            "torch-compiled" compiles it when it first runs.
        device: "cpu", "cuda" or, say, "cuda:1"; None: the first GPU where there is one, else the processor.

    Raises:
        DataError: no such file, or the file holds no Voxflow model.
        InputError: the engine does not read this kind of file, or does not compute on the device.
        MissingDependencyError: the engine asked for is not installed, or there is no such GPU.
    """
    if not path.exists():
        raise DataError("no such model file or folder", path=path)
    try:
        with use_device(device):
            return _open(path, engine, on_gpu=device not in (None, "cpu"))
    except RuntimeError as error:
        if not release_gpu_memory(error):
            raise
    say(f"the GPU has too little free memory for {path}: it runs on the processor")
    with use_device("cpu"):
        return _open(path, engine)


def _open(path: Path, engine: str, *, on_gpu: bool = False) -> Engine:
    """Load a model on the device that :func:`voxflow.machine.use_device` says."""
    candidates = _find_files(path)
    if on_gpu:
        on_processor = [kind.name for kind in candidates if not kind.uses_gpu()]
        candidates = {kind: file for kind, file in candidates.items() if kind.uses_gpu()}
        if engine in on_processor or not candidates:
            names = engine if engine != "auto" else ", ".join(on_processor)
            raise InputError(f"{names} runs on the processor alone, and device asks for a GPU", path=path)
    if engine != "auto":
        return _open_chosen(engine, candidates, path)
    reasons = []
    for kind, file in candidates.items():
        reason = explain_unusable(kind, file)
        if reason is None:
            return open_networks(file, kind.open_fastest)
        reasons.append(f"{kind.name}: {reason}")
    raise InputError(f"no usable model; {'; '.join(reasons) or 'expected ' + _join_names(rank_kinds())}", path=path)


def explain_unusable(kind: EngineKind, file: Path) -> str | None:
    """Say why a file can't be run on this machine; None when it can.

    Where the engine is there and the very file does not fit, a line tells so: another engine is slower.
    """
    reason = kind.explain_unavailable()
    if reason is None:
        networks = (file, *list_network_files(file))
        reason = next((fault for network in networks if (fault := kind.explain_unfit(network))), None)
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
    variant = choice if choice in kind.variants else None
    return open_networks(candidates[kind], lambda file: kind.open(file, variant))


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


def _check_device(value: object) -> str:
    if isinstance(value, str) and _DEVICE.fullmatch(value):
        return value
    raise PydanticCustomError("device", "expected cpu, cuda, or cuda:1 for the second GPU")


def _check_member(value: object, allowed: list[str]) -> str:
    """Accept one of a few words; else the error is the one that pydantic has for a Literal."""
    if isinstance(value, str) and value in allowed:
        return value
    *words, last = [repr(word) for word in allowed]
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(words)} or {last}"})


# What a configuration may say: "auto", an engine of the catalogue, or a variant of one.
EngineChoice = Annotated[str, PlainValidator(_check_choice)]
# What a configuration may say of the device that a model computes on.
Device = Annotated[str, PlainValidator(_check_device)]
# What a configuration may ask to be exported: the formats of the catalogue.
ExportFormat = Annotated[str, PlainValidator(_check_format)]
