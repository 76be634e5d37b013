"""Writes a model repository of NVIDIA Triton from an exported ONNX file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.export import require_one_network, write_triton_config
from voxflow.files import write_text
from voxflow.packaging.folder import fill_template, new_folder

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.packaging.source import PackagedModel


def write_triton(model: PackagedModel, out: Path) -> None:
    """Write ``models/NAME/config.pbtxt``, ``models/NAME/1/model.onnx`` and a client with pre- and post-processing.

    Args:
        model: with an ONNX file.
        out: a new or empty folder.

    Raises:
        DataError: there is no ONNX file, the model has several networks, or the configuration would not fit it.
        InputError: something lies there already.
    """
    file = model.files.get("onnxruntime")
    if file is None:
        raise DataError(f"{model.name} has no ONNX file, which Triton runs; export it with the engine onnx")
    require_one_network(model.spec, file)
    with new_folder(out) as folder:
        place = folder / "models" / model.name
        (place / "1").mkdir(parents=True)
        shutil.copyfile(file, place / "1" / "model.onnx")
        write_triton_config(place / "config.pbtxt", place / "1" / "model.onnx", model.name, model.spec)
        for template, name in (("client.py.txt", "client.py"), ("TRITON.md", "README.md")):
            write_text(folder / name, fill_template(template, name=model.name))
