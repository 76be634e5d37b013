"""Reads the names of classes from a file of the user's: JSON, YAML, or TotalSegmentator's own map_to_binary.py.

TotalSegmentator keeps the names of its classes in its program, as ``class_map`` by task and ``class_map_5_parts`` by
part. That file is parsed, never run.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.spec import ModelSpec
from voxflow.texts import escape, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxflow.adopt.model import AdoptedModel

MOST_BYTES = 1 << 20  # far more than the names of all tasks of TotalSegmentator take
MOST_DIGITS = 5  # of a label value
MOST_NAMES = 10  # that one message lists


def rename_classes(model: AdoptedModel, place: str) -> AdoptedModel:
    """Give an adopted model's classes the names of a class map.

    Args:
        model: whose classes exclude each other; what the map does not name keeps its name.
        place: the file, or ``FILE:NAME`` where it holds several maps. Without NAME the only one is taken that has just
            the model's label values.

    Raises:
        DataError: the file can't be read, holds no such map, or the map names values that the model does not have.
    """
    path, _, name = (place, "", "") if Path(place).exists() else place.rpartition(":")
    file = Path(path or name)
    spec = model.spec
    if spec.regions or spec.activation != "softmax":
        raise DataError("the model's classes overlap; a class map names classes that exclude each other", path=file)
    values = range(1, len(spec.class_names))
    names = _choose_map(_read_maps(file), name if path else "", set(values), file)
    unknown = sorted(names.keys() - {0, *values})
    if unknown:
        message = f"names the label value {unknown[0]}; the model has 1 to {values.stop - 1}"
        raise DataError(message, path=file, where=escape(name) if path else "")
    renamed = [spec.class_names[0], *(names.get(value, spec.class_names[value]) for value in values)]
    content = {**spec.model_dump(), "class_names": renamed}
    return replace(model, spec=ModelSpec.model_validate(content))


def _read_maps(path: Path) -> dict[str, dict[int, str]]:
    """The class maps of a file by name; a map that stands alone has none."""
    if not path.is_file():
        raise DataError("file not found", path=path)
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"no class map: larger than {MOST_BYTES} bytes", path=path)
    text = read_text(path)
    content = _read_literals(text, path) if path.suffix == ".py" else parse_yaml(text, path)
    maps = dict(_list_maps(content, ""))
    if not maps:
        raise DataError("no class map, such as {1: spleen, 2: liver}", path=path)
    return maps


def _read_literals(text: str, path: Path) -> dict[str, Any]:
    """The dictionaries that a Python file assigns to names, where they are written out; nothing is run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError("no Python file that can be parsed", path=path) from error
    literals: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                value = ast.literal_eval(statement.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue  # computed, so that it is no map written out
            literals[statement.targets[0].id] = value
    return literals


def _list_maps(content: Any, name: str) -> Iterator[tuple[str, dict[int, str]]]:
    """Every map of label values to names in nested dictionaries, under the innermost key."""
    if not isinstance(content, dict) or not content:
        return
    numbered = {_read_value(key): value for key, value in content.items()}
    if None not in numbered and all(isinstance(value, str) and value.strip() for value in content.values()):
        yield name, {key: value for key, value in numbered.items() if key is not None}
        return
    for key, value in content.items():
        yield from _list_maps(value, str(key))


def _read_value(key: Any) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= MOST_DIGITS:
        return int(key)
    return key if isinstance(key, int) and not isinstance(key, bool) else None


def _choose_map(maps: dict[str, dict[int, str]], name: str, values: set[int], path: Path) -> dict[int, str]:
    if name:
        if name not in maps:
            raise DataError(f"no class map {escape(name)!r}; there are {_join(maps)}", path=path)
        return maps[name]
    if len(maps) == 1:
        return next(iter(maps.values()))
    fitting = {key: entry for key, entry in maps.items() if entry.keys() - {0} == values}
    if len(fitting) != 1:
        message = f"{len(fitting)} of {len(maps)} class maps have {len(values)} classes; name one as FILE:NAME"
        raise DataError(f"{message}, such as {_join(fitting or maps)}", path=path)
    return next(iter(fitting.values()))


def _join(names: dict[str, Any]) -> str:
    listed = [escape(name) or "one without a name" for name in names]
    return ", ".join(listed[:MOST_NAMES]) + (" …" if len(listed) > MOST_NAMES else "")
