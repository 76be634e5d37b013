"""What all engines read of a model file: its spec, its fixed size, and whether its answers are local."""

from __future__ import annotations

import os
import re
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.components import find_custom_folder
from voxflow.errors import DataError
from voxflow.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Of the networks of a model that has several, all but the first have their number and count in the file's name.
_NUMBERED = re.compile(r"-(\d{1,4})of(\d{1,4})")
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


def name_network_file(file: Path, number: int, count: int) -> Path:
    """Name the file of one network of a model that has several, beside the model's own file.

    Args:
        file: the model's, which holds the first network.
        number: of the network, from 2.
        count: of all networks.

    Example:
        >>> name_network_file(Path("models/model.trt.xml"), 2, 3).as_posix()
        'models/model-2of3.trt.xml'
    """
    stem, ending = _split_name(file)
    return file.with_name(f"{stem}-{number}of{count}{ending}")


def list_network_files(file: Path) -> tuple[Path, ...]:
    """List the files of a model's other networks that lie beside its own, in the order of their numbers.

    Args:
        file: the model's, whether it is there or not.
    """
    stem, ending = _split_name(file)
    places = {}
    for path in file.parent.glob(f"{escape(stem)}-*{escape(ending)}"):
        match = _NUMBERED.fullmatch(path.name[len(stem) : len(path.name) - len(ending)])
        if match:
            places[path] = (int(match[2]), int(match[1]))
    return tuple(sorted(places, key=lambda path: places[path]))


def count_networks(file: Path) -> int:
    """Count the networks of a model by the files beside its own.

    Raises:
        DataError: one is missing, or files of several exports lie there.
    """
    paths = list_network_files(file)
    count = len(paths) + 1
    expected = [name_network_file(file, number, count) for number in range(2, count + 1)]
    if list(paths) == expected:
        return count
    names = ", ".join(path.name for path in paths)
    raise DataError(f"beside it lie {names}: not all networks of one model; export it again", path=file)


def _split_name(file: Path) -> tuple[str, str]:
    """What comes before the first dot of a file's name, and the rest."""
    stem, dot, ending = file.name.partition(".")
    return stem, dot + ending


def cache_folder() -> Path:
    """Return the user's folder for what engines may compute anew."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voxflow"
    except RuntimeError:
        # A user without a home: nothing can be kept below this, and nothing is there.
        return Path(os.devnull) / "voxflow"
