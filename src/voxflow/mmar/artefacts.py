"""Owns the roles of model files: what ``.ckpt``, ``.fzn.pb`` and ``.trt.pb`` of older documents mean here.

A checkpoint is NAME.pt. The regular export is NAME.fzn.ts (TorchScript) and NAME.fzn.onnx. The optimised model is
NAME.trt.engine (TensorRT, where there is an NVIDIA GPU) and NAME.trt.xml with NAME.trt.bin (OpenVINO).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Role = Literal["checkpoint", "regular export", "optimised model"]

# What a role's files end in, the preferred first, and where stages of a pipeline keep them below models/.
ENDINGS: dict[Role, tuple[str, ...]] = {
    "checkpoint": (".pt",),
    "regular export": (".fzn.ts", ".fzn.onnx"),
    "optimised model": (".trt.engine", ".trt.xml"),
}
_STAGE_FILES: dict[Role, tuple[str, ...]] = {
    "checkpoint": ("train/{name}.pt",),
    "regular export": ("export/{name}.ts", "export/{name}.onnx"),
    "optimised model": ("export/{name}.engine", "export/{name}.xml"),
}
# The names that TensorFlow's files had; TLT 2 wrote .ckpt.meta, .ckpt.index and .ckpt.data-00000-of-00001 for one.
_OLD_NAMES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("checkpoint", re.compile(r"\.ckpt(\.meta|\.index|\.data[-\w]*)?$")),
    ("regular export", re.compile(r"\.(fzn|frn)(\.pb)?$")),
    ("optimised model", re.compile(r"\.trt(\.pb)?$")),
)
_KNOWN_ENDINGS = (".pt", ".ts", ".onnx", ".xml", ".engine")


def find_model(path: Path) -> Path:
    """The model file that a configuration or a flag means.

    Args:
        path: a file that is there; or one named as Clara and TLT named it, which means the file of that role.

    Raises:
        DataError: there is none; the message lists what was looked for.
    """
    if path.is_file() and not any(pattern.search(path.name) for _, pattern in _OLD_NAMES):
        return path
    role, name = role_of(path)
    looked = list(_places(role, path, name))
    found = next((place for place in looked if place.is_file() and usable(place)), None)
    if found is None:
        wanted = ", ".join(str(place.relative_to(path.parent)) for place in looked)
        command = "train" if role == "checkpoint" else "export"
        foreign = " (what is there is TensorFlow's, which can't be read)" if _is_tensorflow(path) else ""
        raise DataError(f"no {role}: looked for {wanted}; {command} first{foreign}", path=path)
    return found


def model_of(path: Path) -> Path:
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


def role_of(path: Path) -> tuple[Role, str]:
    """The role that a name stands for, and the base name without its ending.

    Raises:
        DataError: the name is none of a model.
    """
    for role, pattern in _OLD_NAMES:
        if pattern.search(path.name):
            return role, pattern.sub("", path.name)
    for role, endings in reversed(ENDINGS.items()):
        for ending in endings:
            if path.name.endswith(ending):
                return role, path.name.removesuffix(ending)
    raise DataError(
        f"no such model; its name should end in .ckpt, .fzn.pb, .trt.pb or one of {', '.join(_KNOWN_ENDINGS)}",
        path=path,
    )


def usable(path: Path) -> bool:
    """Whether an engine on this machine can run the file: a TensorRT engine needs its GPU and its version."""
    from voxflow.engines import unfit, unusable

    return not path.name.endswith(".engine") or not (unusable("tensorrt") or unfit("tensorrt", path))


def _is_tensorflow(path: Path) -> bool:
    return path.is_file() or path.with_name(f"{path.name}.index").is_file()


def _places(role: Role, path: Path, name: str) -> Iterator[Path]:
    for ending in ENDINGS[role]:
        yield path.with_name(name + ending)
    for file in _STAGE_FILES[role]:
        yield path.parent / file.format(name=name)
