"""Writes a model's files: the base files of its family, with their placeholders replaced by the model's facts.

A hole is a string ``"@name@"``. Alone in a JSON string it becomes a value of any type, and drops out together with
its key where the value is None; as an item of a list it becomes several items where the value is a list.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from voxflow.workspace.zoo.components import fill_values
from voxflow.workspace.zoo.models import FOLDER
from voxflow.workspace.zoo.readme import collect_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxflow.workspace.zoo.models import ZooModel

Variant = Literal["published", "cpu"]
VARIANTS: dict[str, str] = {
    "published": "the published network and patch size, for a GPU with 16 GB",
    "cpu": "a small network and small patches, for machines without a GPU",
}
_HOLE = re.compile(r"@(\w+)@")
_LINE = 100  # a list or object that is shorter stands on one line


def write_model(model: ZooModel, folder: Path, variant: Variant) -> None:
    """Write config/, docs/ and the example datalist of a model; commands/ and resources/ are the same for all.

    Args:
        model: of the zoo.
        folder: the MMAR, which exists.
        variant: "published", or "cpu" for a small network.
    """
    values = fill_values(model, model.cpu if variant == "cpu" else model.published)
    for source in sorted((FOLDER / model.family / "config").glob("*.json")):
        filled = fill_holes(json.loads(source.read_text(encoding="utf-8")), values)
        _write(folder / "config" / source.name, format_json(filled) + "\n")
    _write(folder / "config" / model.datalist_name, format_json(make_example_datalist(model)) + "\n")
    words = collect_words(model, variant)
    for source in sorted((FOLDER / "docs").iterdir()):
        text = source.read_text(encoding="utf-8")
        _write(folder / "docs" / source.name, _HOLE.sub(lambda hole: words[hole[1]], text))


def make_environment(model: ZooModel, data_root: str, datalist: str) -> dict[str, str]:
    """The content of environment.json."""
    return {
        "DATA_ROOT": data_root,
        "DATASET_JSON": datalist,
        "PROCESSING_TASK": model.task,
        "MMAR_EVAL_OUTPUT_PATH": "eval",
        "MMAR_CKPT_DIR": "models",
        "PRETRAIN_WEIGHTS_FILE": "",
    }


def make_example_datalist(model: ZooModel) -> dict[str, Any]:
    """A datalist of the data set's own form with four of its cases, three to train and one to validate."""
    items = [_make_case(model, case, number) for number, case in enumerate(model.data.cases)]
    return {**_make_metadata(model), "training": items[:3], "validation": items[3:]}


def _make_metadata(model: ZooModel) -> dict[str, Any]:
    content: dict[str, Any] = {"description": model.summary, "name": model.data.name}
    if model.task == "classification":
        content["label_format"] = [1] * len(model.outputs)
        content["labels"] = {str(index): name for index, name in enumerate(model.outputs)}
    else:
        content["labels"] = model.labels
        content["numTraining"], content["numTest"] = model.data.training, model.data.test
        content["tensorImageSize"] = "3D"
    content["modality"] = {str(index): channel for index, channel in enumerate(model.channels)}
    return content | {"licence": model.data.licence, "reference": model.data.reference}


def _make_case(model: ZooModel, case: str, number: int) -> dict[str, Any]:
    images = [name.format(case=case) for name in model.data.images]
    image = images[0] if len(images) == 1 else images
    if model.task == "segmentation":
        return {"image": image, "label": model.data.label.format(case=case)}
    return {"image": image, "label": [int(index % 4 == number) for index in range(len(model.outputs))]}


def fill_holes(value: Any, values: Mapping[str, Any]) -> Any:
    """Put values into the holes of a JSON value; values may have holes of their own.

    Raises:
        KeyError: a hole has no value.

    Example:
        >>> fill_holes({"size": "@patch@", "seed": "@seed@", "all": [0, "@patch@"]}, {"patch": [8, 9], "seed": None})
        {'size': [8, 9], 'all': [0, 8, 9]}
    """
    if isinstance(value, dict):
        filled = {key: fill_holes(item, values) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item is not None}
    if isinstance(value, list):
        return [item for part in value for item in _fill_items(part, values)]
    hole = _HOLE.fullmatch(value) if isinstance(value, str) else None
    return fill_holes(values[hole[1]], values) if hole else value


def _fill_items(part: Any, values: Mapping[str, Any]) -> list[Any]:
    filled = fill_holes(part, values)
    return filled if isinstance(filled, list) and isinstance(part, str) else [filled]


def format_json(value: Any, indent: str = "") -> str:
    """Write JSON as a person writes it: what is short stands on one line.

    Args:
        value: plain values.
        indent: blanks before the lines of ``value``; the outermost object is always opened.

    Example:
        >>> print(format_json({"a": [1, 2], "b": {"c": 3}}))
        {
          "a": [1, 2],
          "b": {"c": 3}
        }
    """
    line = json.dumps(value, ensure_ascii=False)
    is_flat = not isinstance(value, dict | list) or (indent and len(indent) + len(line) <= _LINE)
    if is_flat or not value:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {format_json(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + format_json(item, inner) for item in value) + f"\n{indent}]"


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
