"""Owns what all engines read of a model file: its ModelSpec, its fixed size, whether its answers are local."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voxflow.components import find_custom_folder
from voxflow.errors import DataError
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# What averages over all that it is shown, by the names of modules and operators: instance and group norm, global
# pooling. A network with one of these answers otherwise when its window grows.
_GLOBAL = re.compile(r"instance_?norm|group_?norm|layer_?norm|adaptive_?\w*pool|global\w*pool|^MVN$", re.IGNORECASE)


def is_local(parts: Iterable[str]) -> bool:
    """Whether none of the named modules or operators averages over the whole window."""
    return not any(_GLOBAL.search(part) for part in parts)


def onnx_operators(path: Path) -> set[str]:
    """The operators that an ONNX file uses."""
    import onnx

    return {node.op_type for node in onnx.load(str(path)).graph.node}


def read_spec(text: str | bytes, path: Path) -> ModelSpec:
    """Read the ModelSpec's JSON that a model file holds; refuse a file that holds none."""
    if not text:
        raise DataError("the model file carries no Voxflow spec; export it with Voxflow", path=path)
    return ModelSpec.model_validate_json(text).at(find_custom_folder(path))


def fixed_size(shape: Sequence[int | str | None]) -> tuple[int, ...] | None:
    """The spatial size where every axis has one; None where the file leaves them open."""
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None
