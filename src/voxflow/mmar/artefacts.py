"""Finds model files by their roles: what ``.ckpt``, ``.fzn.pb`` and ``.trt.pb`` of older documents mean here.

A checkpoint is NAME.pt. The regular export is NAME.fzn.ts (TorchScript) and NAME.fzn.onnx. The optimised model is
NAME.trt.engine (TensorRT, where there is an NVIDIA GPU) and NAME.trt.xml with NAME.trt.bin (OpenVINO).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from voxflow.engines import explain_unusable, find_kind_of_file, list_engine_kinds, list_exported_kinds
from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Role = Literal["checkpoint", "regular export", "optimised model"]

# What stands before the ending of a role's files, and in which folder below models/ a pipeline's stages keep them.
_MIDDLES: dict[Role, str] = {"checkpoint": "", "regular export": ".fzn", "optimised model": ".trt"}
_STAGES: dict[Role, str] = {"checkpoint": "train", "regular export": "export", "optimised model": "export"}
# The names that TensorFlow's files had; TLT 2 wrote .ckpt.meta, .ckpt.index and .ckpt.data-00000-of-00001 for one.
_OLD_NAMES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("checkpoint", re.compile(r"\.ckpt(\.meta|\.index|\.data[-\w]*)?$")),
    ("regular export", re.compile(r"\.(fzn|frn)(\.pb)?$")),
    ("optimised model", re.compile(r"\.trt(\.pb)?$")),
)


def find_model(path: Path) -> Path:
    """The model file that a configuration or a flag means.

    Args:
        path: a file that is there; or one named as Clara and TLT named it, which means the file of that role.

    Raises:
        DataError: there is none; the message lists what was looked for.
    """
    if path.is_file() and not any(pattern.search(path.name) for _, pattern in _OLD_NAMES):
        return path
    role, name = read_role(path)
    candidates = list(_list_candidates(role, path, name))
    file = next((place for place in candidates if place.is_file() and is_usable(place)), None)
    if file is None:
        names = ", ".join(str(place.relative_to(path.parent)) for place in candidates)
        command = "train" if role == "checkpoint" else "export"
        foreign = " (what is there is TensorFlow's, which can't be read)" if _is_tensorflow(path) else ""
        raise DataError(f"no {role}: looked for {names}; {command} first{foreign}", path=path)
    return file


def resolve_model(path: Path) -> Path:
    """What a path stands for where any model is taken: a model file, or a folder of exported ones.

    Args:
        path: either of them; or an MMAR or its folder of models: what is exported there, else its checkpoint.

    Raises:
        DataError: an MMAR that has no model.
    """
    if not path.is_dir():
        return path
    inside = path / "models" if (path / "models").is_dir() else path
    if (inside / "export").is_dir():
        return inside / "export"
    for name in ("model.trt.pb", "model.fzn.pb"):
        try:
            return find_model(inside / name)
        except DataError:
            continue
    return path if inside == path else find_model(inside / "model.ckpt")


def read_role(path: Path) -> tuple[Role, str]:
    """Read from a name which role a model file has, and its base name without the ending.

    Raises:
        DataError: the name is none of a model.

    Example:
        >>> from pathlib import Path
        >>> read_role(Path("models/model.trt.pb"))
        ('optimised model', 'model')
        >>> read_role(Path("model_final.fzn.onnx"))
        ('regular export', 'model_final')
    """
    for role, pattern in _OLD_NAMES:
        if pattern.search(path.name):
            return role, pattern.sub("", path.name)
    for role in reversed(_MIDDLES):
        for ending in (_MIDDLES[role] + suffix for suffix in _suffixes(role)):
            if path.name.endswith(ending):
                return role, path.name.removesuffix(ending)
    if path.suffix == ".ts":  # Clara 4's name of a TorchScript file
        return "regular export", path.stem
    endings = ", ".join(kind.suffix for kind in list_engine_kinds())
    raise DataError(f"no such model; its name should end in .ckpt, .fzn.pb, .trt.pb or one of {endings}", path=path)


def is_usable(path: Path) -> bool:
    """Whether an engine on this machine can run the file: a TensorRT engine needs its GPU and its version."""
    kind = find_kind_of_file(path)
    return kind is None or explain_unusable(kind, path) is None


def _suffixes(role: Role) -> list[str]:
    """The endings of a role's files, the preferred first: nearest to torch, or for optimised models the fastest."""
    if role == "checkpoint":
        return [kind.suffix for kind in list_engine_kinds() if kind.format is None]
    kinds = [kind for kind in list_exported_kinds() if kind.is_optimised == (role == "optimised model")]
    return [kind.suffix for kind in (reversed(kinds) if role == "optimised model" else kinds)]


def _is_tensorflow(path: Path) -> bool:
    return path.is_file() or path.with_name(f"{path.name}.index").is_file()


def _list_candidates(role: Role, path: Path, name: str) -> Iterator[Path]:
    for suffix in _suffixes(role):
        yield path.with_name(name + _MIDDLES[role] + suffix)
    for suffix in _suffixes(role):
        yield path.parent / _STAGES[role] / (name + suffix)
