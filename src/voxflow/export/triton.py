"""Writes the configuration of NVIDIA Triton for an exported ONNX file, and holds one against the file.

It is a ``ModelConfig`` in the text form of protocol buffers. The part of its schema that is used here is declared
below, with Triton's own names, so that a field that Triton lacks can't be written.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.spec import ModelSpec

    # Element type and whole shape by the name of an input or output; -1 for a size that is open.
    Tensors = dict[str, tuple[str, tuple[int, ...]]]

MOST_WINDOWS = 4  # that a request may hold
# Triton's word for an element type of ONNX.
TYPES = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "DOUBLE": "TYPE_FP64", "INT64": "TYPE_INT64"}
_TYPE_NUMBERS = {"TYPE_INVALID": 0, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11, "TYPE_FP64": 12}
_KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2}
# message → (field, number in Triton's model_config.proto, type, repeated?)
_SCHEMA: dict[str, list[tuple[str, int, str, bool]]] = {
    "Tensor": [("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 4, "int64", True)],
    "Output": [("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 3, "int64", True)],
    "Group": [("kind", 4, "Kind", False), ("count", 2, "int32", False)],
    "WarmupInput": [("data_type", 1, "DataType", False), ("dims", 2, "int64", True), ("zero_data", 3, "bool", False)],
    "WarmupEntry": [("key", 1, "string", False), ("value", 2, "WarmupInput", False)],
    "Warmup": [("name", 1, "string", False), ("batch_size", 2, "uint32", False), ("inputs", 3, "WarmupEntry", True)],
    "ModelConfig": [
        ("name", 1, "string", False),
        ("backend", 17, "string", False),
        ("default_model_filename", 8, "string", False),
        ("max_batch_size", 4, "int32", False),
        ("input", 5, "Tensor", True),
        ("output", 6, "Output", True),
        ("instance_group", 7, "Group", True),
        ("model_warmup", 16, "Warmup", True),
    ],
}


def write_triton_config(
    path: Path,
    onnx_file: Path,
    name: str,
    spec: ModelSpec,
    *,
    batch: int = MOST_WINDOWS,
    space: Sequence[int] = (),
) -> None:
    """Write a configuration with which Triton serves an ONNX file, and check it.

    Args:
        path: the configuration.
        onnx_file: the model; Triton looks for it by its name.
        name: what Triton calls the model.
        spec: of the model.
        batch: greatest batch of a request, where the file takes any.
        space: sizes that the input has; () leaves those open that are open in the file.

    Raises:
        DataError: the file has inputs or outputs of a type that Triton's configuration here does not know.
    """
    from google.protobuf import text_format

    config = _make_config(name, onnx_file, batch, space)
    window = space or spec.window or spec.size
    if window is not None:
        _add_warmup(config, (1, spec.in_channels, *window), read_onnx_tensors(onnx_file)["input"])
    write_text(path, text_format.MessageToString(config))
    check_triton_config(path, onnx_file)


def require_one_network(spec: ModelSpec, path: Path) -> None:
    """Refuse a model of several networks, which are joined by more than Triton does.

    Args:
        spec: of the model.
        path: its file, for the message.

    Raises:
        DataError: it is a cascade or a joined model.
    """
    if spec.has_several_networks:
        kind = "a joined model" if spec.parts else "a cascade"
        raise DataError(f"{kind} has several networks, and Triton runs one; make a container of it", path=path)


def check_triton_config(config: Path, onnx_file: Path) -> None:
    """Pass when a configuration of Triton fits an ONNX file: names, element types, ranks and sizes.

    In a model repository, where the file lies in ``NAME/1``, the model has the name of the folder.

    Raises:
        DataError: it does not, or it is none.
    """
    from google.protobuf import text_format

    try:
        content = text_format.Parse(config.read_text(encoding="utf-8"), _get_config_class()())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"no configuration of Triton: {error}", path=config) from error
    is_repository = onnx_file.parent.parent == config.parent
    if is_repository and content.name != config.parent.name:
        raise DataError(f"name is {content.name!r}, but Triton needs the folder's, {config.parent.name!r}", path=config)
    expected = read_onnx_tensors(onnx_file)
    for part in ("input", "output"):
        stated = {tensor.name: _state_tensor(tensor, content.max_batch_size) for tensor in getattr(content, part)}
        if not _is_compatible(stated, expected[part]):
            raise DataError(f"{part} is {stated}, but the ONNX file has {expected[part]}", path=config)


def _is_compatible(stated: Tensors, expected: Tensors) -> bool:
    """Whether Triton would take what is stated: a size that is open in the file may be any."""
    return stated.keys() == expected.keys() and all(
        word == expected[name][0]
        and len(shape) == len(expected[name][1])
        and all(limit in (-1, size) for size, limit in zip(shape, expected[name][1], strict=True))
        for name, (word, shape) in stated.items()
    )


def _state_tensor(tensor: Any, batch: int) -> tuple[str, tuple[int, ...]]:
    """A tensor's type and whole shape; where Triton makes batches, the first axis is not in ``dims``, and is open."""
    names = {number: name for name, number in _TYPE_NUMBERS.items()}
    return names[tensor.data_type], ((-1,) if batch else ()) + tuple(tensor.dims)


def read_onnx_tensors(path: Path) -> dict[str, Tensors]:
    """Read type and shape of the inputs and outputs of an ONNX file."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}

    def read(values: Any) -> Tensors:
        tensors = {}
        for value in values:
            tensor = value.type.tensor_type
            word = onnx.TensorProto.DataType.Name(tensor.elem_type)
            sizes = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
            if value.name not in weights:
                tensors[value.name] = (TYPES.get(word, word), sizes)
        return tensors

    return {"input": read(graph.input), "output": read(graph.output)}


def _make_config(name: str, file: Path, most: int, space: Sequence[int]) -> Any:
    tensors = read_onnx_tensors(file)
    shapes = [shape for part in tensors.values() for _, shape in part.values()]
    batch = most if all(shape and shape[0] == -1 for shape in shapes) else 0
    config = _get_config_class()(name=name, backend="onnxruntime", max_batch_size=batch)
    if file.name != "model.onnx":
        config.default_model_filename = file.name
    for part, entries in tensors.items():
        for tensor, (word, shape) in entries.items():
            if word not in _TYPE_NUMBERS:
                raise DataError(
                    f"{tensor} has the type {word}, which Triton's configuration here does not know", path=file
                )
            is_image = bool(space) and len(shape) == len(space) + 2  # (batch, channel, *space)
            sizes = (*shape[:2], *space) if is_image else shape
            getattr(config, part).add(name=tensor, data_type=_TYPE_NUMBERS[word], dims=sizes[1:] if batch else sizes)
    # One instance for each GPU, or one on the processor where there is none.
    config.instance_group.add(kind=_KINDS["KIND_AUTO"], count=1)
    return config


def _add_warmup(config: Any, default: Sequence[int], inputs: Tensors) -> None:
    """Let Triton run one window of zeros before it says that it is ready: the first run of a model is slow."""
    warmup = config.model_warmup.add(name="one_window", batch_size=1)
    for name, (word, shape) in inputs.items():
        sizes = [size if size > 0 else usual for size, usual in zip(shape, default, strict=True)]
        entry = warmup.inputs.add(key=name)
        entry.value.data_type, entry.value.zero_data = _TYPE_NUMBERS[word], True
        entry.value.dims.extend(sizes[1:] if config.max_batch_size else sizes)


@cache
def _get_config_class() -> Any:
    """The class of a configuration, made of :data:`_SCHEMA`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="voxflow_triton.proto", package="voxflow_triton", syntax="proto3")
    for name, words in (("DataType", _TYPE_NUMBERS), ("Kind", _KINDS)):
        enum = file.enum_type.add(name=name)
        for word, number in words.items():
            enum.value.add(name=word, number=number)
    kinds = {"string": 9, "int64": 3, "int32": 5, "uint32": 13, "bool": 8}
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_repeated in fields:
            entry = message.field.add(name=field, number=number, label=3 if is_repeated else 1)
            if kind in kinds:
                entry.type = kinds[kind]
            else:
                entry.type = 14 if kind in ("DataType", "Kind") else 11
                entry.type_name = f".voxflow_triton.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("voxflow_triton.ModelConfig"))
