"""Writes a model repository of NVIDIA Triton from an exported ONNX file, and holds its configuration against the file.

The configuration is a ``ModelConfig`` of Triton in the text form of protocol buffers. The part of its schema that is
used here is declared below, with Triton's own names, so that a field that Triton lacks can't be written.
"""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import write_text
from voxflow.packaging.folder import fill_template, new_folder

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.packaging.source import PackagedModel

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
        ("max_batch_size", 4, "int32", False),
        ("input", 5, "Tensor", True),
        ("output", 6, "Output", True),
        ("instance_group", 7, "Group", True),
        ("model_warmup", 16, "Warmup", True),
    ],
}


def write_triton(model: PackagedModel, out: Path) -> None:
    """Write ``models/NAME/config.pbtxt``, ``models/NAME/1/model.onnx`` and a client with pre- and post-processing.

    Args:
        model: with an ONNX file.
        out: a new or empty folder.

    Raises:
        DataError: there is no ONNX file, or the configuration would not fit it.
        InputError: something lies there already.
    """
    from google.protobuf import text_format

    file = model.files.get("onnxruntime")
    if file is None:
        raise DataError(f"{model.name} has no ONNX file, which Triton runs; export it with the engine onnx")
    with new_folder(out) as folder:
        place = folder / "models" / model.name
        (place / "1").mkdir(parents=True)
        shutil.copyfile(file, place / "1" / "model.onnx")
        write_text(place / "config.pbtxt", text_format.MessageToString(_make_config(model, file)))
        check_triton_config(place / "config.pbtxt", place / "1" / "model.onnx")
        for template, name in (("client.py.txt", "client.py"), ("TRITON.md", "README.md")):
            write_text(folder / name, fill_template(template, name=model.name))


def check_triton_config(config: Path, onnx_file: Path) -> None:
    """Pass when a configuration of Triton fits an ONNX file: names, element types, ranks and sizes.

    Raises:
        DataError: it does not, or it is none.
    """
    from google.protobuf import text_format

    try:
        content = text_format.Parse(config.read_text(encoding="utf-8"), _get_config_class()())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"no configuration of Triton: {error}", path=config) from error
    if content.name != config.parent.name:
        raise DataError(f"name is {content.name!r}, but Triton needs the folder's, {config.parent.name!r}", path=config)
    expected = _read_tensors(onnx_file)
    for part in ("input", "output"):
        stated = {tensor.name: _state_tensor(tensor, content.max_batch_size) for tensor in getattr(content, part)}
        if stated != expected[part]:
            raise DataError(f"{part} is {stated}, but the ONNX file has {expected[part]}", path=config)


def _state_tensor(tensor: Any, batch: int) -> tuple[str, tuple[int, ...]]:
    """A tensor's type and whole shape; where Triton makes batches, the first axis is not in ``dims``, and is open."""
    names = {number: name for name, number in _TYPE_NUMBERS.items()}
    return names[tensor.data_type], ((-1,) if batch else ()) + tuple(tensor.dims)


def _read_tensors(path: Path) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Type and shape of the inputs and outputs of an ONNX file; -1 for a size that is open."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}

    def read(values: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
        tensors = {}
        for value in values:
            tensor = value.type.tensor_type
            word = onnx.TensorProto.DataType.Name(tensor.elem_type)
            sizes = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
            if value.name not in weights:
                tensors[value.name] = (TYPES.get(word, word), sizes)
        return tensors

    return {"input": read(graph.input), "output": read(graph.output)}


def _make_config(model: PackagedModel, file: Path) -> Any:
    tensors = _read_tensors(file)
    sizes = [shape for part in tensors.values() for _, shape in part.values()]
    batch = MOST_WINDOWS if all(shape and shape[0] == -1 for shape in sizes) else 0
    config = _get_config_class()(name=model.name, backend="onnxruntime", max_batch_size=batch)
    for part, entries in tensors.items():
        for name, (word, shape) in entries.items():
            if word not in _TYPE_NUMBERS:
                raise DataError(
                    f"{name} has the type {word}, which Triton's configuration here does not know", path=file
                )
            getattr(config, part).add(name=name, data_type=_TYPE_NUMBERS[word], dims=shape[1:] if batch else shape)
    # One instance for each GPU, or one on the processor where there is none.
    config.instance_group.add(kind=_KINDS["KIND_AUTO"], count=1)
    _add_warmup(config, model, tensors["input"], batch)
    return config


def _add_warmup(config: Any, model: PackagedModel, inputs: dict[str, tuple[str, tuple[int, ...]]], batch: int) -> None:
    """Let Triton run one window of zeros before it says that it is ready: the first run of a model is slow."""
    spec = model.spec
    window = spec.window or spec.size
    if window is None:
        return
    warmup = config.model_warmup.add(name="one_window", batch_size=1)
    for name, (word, shape) in inputs.items():
        sizes = [
            size if size > 0 else default for size, default in zip(shape, (1, spec.in_channels, *window), strict=True)
        ]
        entry = warmup.inputs.add(key=name)
        entry.value.data_type, entry.value.zero_data = _TYPE_NUMBERS[word], True
        entry.value.dims.extend(sizes[1:] if batch else sizes)


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
