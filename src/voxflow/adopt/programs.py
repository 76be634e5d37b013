"""Reads TorchScript and ONNX files of other tools as networks, and refuses those that do more than compute."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Any

from voxflow.components import Component, build_network
from voxflow.errors import DataError, join_names
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

INPUT, OUTPUT = "image", "logits"
# A message of ONNX's format holds no more.
MOST_ONNX_BYTES = 2**31 - 1
# Operators of TorchScript that read or write files of the machine.
_FILE_OPERATORS = re.compile(r"\b(?:torch|ops\.aten)\.(from_file|save)\(")
_FLOAT = 1  # onnx.TensorProto.FLOAT


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with the code of a TorchScript program."""
    return bool(zipfile.is_zipfile(path)) and bool(_list_code(path))


def read_torchscript(path: Path, component: Component) -> torch.nn.Module:
    """Read a TorchScript file.

    Raises:
        DataError: it is damaged, or opens files itself.
    """
    for name in _list_code(path):
        with zipfile.ZipFile(path) as archive:
            operator = _FILE_OPERATORS.search(archive.read(name).decode("utf-8", "replace"))
        if operator:
            raise DataError(f"the program opens files itself (torch.{operator[1]}), and is not run", path=path)
    return _load(path, component, path.read_bytes(), "TorchScript file")


def read_onnx(path: Path, component: Component, window: Sequence[int], output: str | None) -> torch.nn.Module:
    """Read an ONNX file with one input (batch, channel, i, j, k) of float32.

    Args:
        path: the file.
        component: the network of the model file.
        window: the size that the specification says, voxels.
        output: which of several outputs are the logits; None: there is one.

    Raises:
        DataError: it is damaged, too large, or its inputs and outputs are others.
    """
    import onnx

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError:
        raise
    except Exception as error:  # its readers' errors share no base but this
        message = f"neither an ONNX file nor TorchScript: {escape((str(error).splitlines() or [''])[0])}"
        raise DataError(f"{message}; a state_dict needs the key network", path=path) from error
    if model.ByteSize() > MOST_ONNX_BYTES:
        raise DataError("an ONNX file of more than 2 GB can't be adopted", path=path)
    channels, classes = component.args["in_channels"], component.args["num_classes"]
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = join_names([value.name for value in inputs], 5) or "none"
        raise DataError(f"needs one input, the image; received {names}", path=path, where="inputs")
    _check_value(inputs[0], (None, channels, *window), path, "input")
    answer = _choose_output(list(model.graph.output), output, path)
    _check_value(answer, (None, classes, *window), path, "output")
    _rename(model.graph, inputs[0].name, INPUT)
    _rename(model.graph, answer.name, OUTPUT)
    for value in [value for value in model.graph.output if value.name != OUTPUT]:
        model.graph.output.remove(value)
    return _load(path, component, model.SerializeToString(), "ONNX file")


def _list_code(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if re.search(r"/code/.*\.py$", name)]
    except zipfile.BadZipFile:
        return []


def _load(path: Path, component: Component, program: bytes, kind: str) -> torch.nn.Module:
    network: Any = build_network(component)
    try:
        network.load_program(program)
    except Exception as error:  # the readers of both formats raise whatever their bytes lead them to
        reason = escape((str(error).splitlines() or [""])[0])
        raise DataError(f"no {kind} that runs here: {reason}", path=path) from error
    return network.eval()  # type: ignore[no-any-return]


def _choose_output(values: list[Any], name: str | None, path: Path) -> Any:
    names = [value.name for value in values]
    if name is None and len(values) == 1:
        return values[0]
    if name not in names:
        message = f"no output {name!r}" if name else "several outputs; say which are the logits by the key output"
        raise DataError(f"{message}; there are {join_names(names, 8)}", path=path, where="outputs")
    return values[names.index(name)]


def _check_value(value: Any, expected: Sequence[int | None], path: Path, kind: str) -> None:
    """Refuse an input or output of another type or shape; an axis that the file leaves open fits any size."""
    where = f"{kind} {escape(value.name)}"
    tensor = value.type.tensor_type
    if tensor.elem_type != _FLOAT:
        raise DataError("needs numbers of 32 bits (float32)", path=path, where=where)
    if kind == "output" and not tensor.HasField("shape"):
        return
    sides = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
    if len(sides) == len(expected):
        pairs = zip(sides, expected, strict=True)
        if all(side is None or size is None or side == size for side, size in pairs):
            return
    received = " × ".join("?" if side is None else str(side) for side in sides)
    needed = " × ".join("batch" if size is None else str(size) for size in expected)
    message = f"has the shape {received or 'of a number'}; the specification says {needed}"
    hint = "; a network of two dimensions can't be adopted" if len(sides) == len(expected) - 1 else ""
    raise DataError(message + hint, path=path, where=where)


def _rename(graph: Any, old: str, new: str) -> None:
    """Give a value of the graph another name; one that has this name already gets a longer one."""
    if old == new:
        return
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    if new in names:
        _replace_name(graph, new, next(f"{new}_{n}" for n in range(len(names) + 1) if f"{new}_{n}" not in names))
    _replace_name(graph, old, new)


def _replace_name(graph: Any, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _replace_name(inner, old, new)
