"""What all engines read of a model file: its spec, its fixed size, and whether its answers are local."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components import find_custom_folder
from voxflow.errors import DataError
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What averages over all that it is shown, by the names of torch's modules, of ONNX's operators and of OpenVINO's:
# instance and group norm, global pooling. A network with one of these answers otherwise when its window grows.
_GLOBAL = re.compile(r"instance_?norm|group_?norm|layer_?norm|adaptive_?\w*pool|global\w*pool|^MVN$", re.IGNORECASE)


def read_spec(text: str | bytes, path: Path) -> ModelSpec:
    """Read the spec that a model file carries.

    Args:
        text: the JSON inside the file; empty: there is none.
        path: the file, which tells where the workspace's own components lie.

    Raises:
        DataError: there is none.
    """
    if not text:
        message = "the model file carries no Voxflow spec; export its checkpoint with Voxflow"
        if path.suffix == ".ts":
            message += ", or evaluate it by the ts_path of a config_validation.json of Clara 4"
        raise DataError(message, path=path)
    return ModelSpec.model_validate_json(text).with_custom_folder(find_custom_folder(path))


def is_local(operators: Iterable[str]) -> bool:
    """Tell whether no operator averages over the whole window; see :class:`voxflow.engines.Engine`.

    Args:
        operators: names of a network's modules or operators, as torch, ONNX or OpenVINO call them.

    Example:
        >>> is_local(["Conv3d", "BatchNorm3d", "ReLU"])
        True
        >>> is_local(["Conv", "InstanceNormalization", "LeakyRelu"])
        False
    """
    return not any(_GLOBAL.search(operator) for operator in operators)


def list_onnx_operators(path: Path) -> set[str]:
    """List the operators that an ONNX file uses."""
    import onnx

    return {node.op_type for node in onnx.load(str(path)).graph.node}


def get_fixed_size(shape: Sequence[int | str | None]) -> tuple[int, ...] | None:
    """Return the spatial size that a file is bound to; None where it leaves an axis open.

    Args:
        shape: of each spatial axis the number of voxels; None, or ONNX's name of the axis, where it is open.

    Example:
        >>> get_fixed_size([96, 96, 64])
        (96, 96, 64)
        >>> get_fixed_size(["i", "j", "k"]) is None
        True
    """
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None


def cache_folder() -> Path:
    """Return the user's folder for what engines may compute anew."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxflow"
    except RuntimeError:
        # A user without a home: nothing can be kept below this, and nothing is there.
        return Path(os.devnull) / "voxflow"
