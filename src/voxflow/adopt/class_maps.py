"""Reads the names of classes from a file of the user's: JSON, YAML, or TotalSegmentator's own map_to_binary.py.

TotalSegmentator keeps the names of its classes in its program, as ``class_map`` by task, and as ``class_map_5_parts``
and ``class_map_parts_mr`` by part. That file is parsed, never run.
"""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.spec import ModelSpec
from voxflow.texts import escape, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from voxflow.adopt.model import AdoptedModel

MOST_BYTES = 1 << 20  # far more than the names of all tasks of TotalSegmentator take
MOST_DIGITS = 5  # of a label value
MOST_NAMES = 10  # that one message lists


@dataclass(frozen=True)
class ClassMaps:
    """The class maps of a file.

    Attributes:
        path: the file.
        maps: each one, by the keys that lead to it, outermost first; one that stands alone has none.
    """

    path: Path
    maps: dict[tuple[str, ...], dict[int, str]]

    @cached_property
    def names(self) -> dict[str, dict[int, str]]:
        """Each map by the last of its keys; by all of them, with dots between, where several end alike."""
        ends = [keys[-1:] for keys in self.maps]
        return {".".join(keys if ends.count(keys[-1:]) > 1 else keys[-1:]): entry for keys, entry in self.maps.items()}

    def choose(self, name: str, values: Collection[int]) -> dict[int, str]:
        """Choose a map.

        Args:
            name: its last key, or all of them with dots between; "": the only map that has just these values. Of maps
                whose keys end alike it is the one that has.
            values: the label values of a model, without the background.

        Raises:
            DataError: there is none, or there are several.
        """
        if not name and len(self.maps) == 1:
            return next(iter(self.maps.values()))
        named = {key: entry for key, entry in self.names.items() if not name or key == name or key.endswith(f".{name}")}
        if not named:
            raise DataError(f"no class map {escape(name)!r}; there are {_join(self.names)}", path=self.path)
        if name and len(named) == 1:
            return next(iter(named.values()))
        fitting = {key: entry for key, entry in named.items() if entry.keys() - {0} == set(values)}
        if len(fitting) != 1:
            message = f"{len(fitting)} of {len(named)} class maps have {len(values)} classes; name one as FILE:NAME"
            raise DataError(f"{message}, such as {_join(fitting or named)}", path=self.path)
        return next(iter(fitting.values()))

    def find_part(self, number: int) -> tuple[str, int] | None:
        """Find the map of a part in TotalSegmentator's tables of parts, such as ``{291: "class_map_part_organs"}``.

        Args:
            number: of the part's data set, such as 291.

        Returns:
            The name of its map, and its place in the table; None: no table names it.
        """
        ends = {keys[-1] for keys in self.maps if keys}
        for table in self.maps.values():
            if table.get(number) in ends:
                return table[number], list(table).index(number)
        return None


def read_class_maps(place: str) -> tuple[ClassMaps, str]:
    """Read the class maps of ``FILE`` or ``FILE:NAME``.

    Returns:
        The maps, and NAME; "" where none is named.

    Raises:
        DataError: the file can't be read, or holds no map.
    """
    path, _, name = (place, "", "") if Path(place).exists() else place.rpartition(":")
    return _read_maps(Path(path or name)), name if path else ""


def rename_classes(model: AdoptedModel, place: str) -> AdoptedModel:
    """Give an adopted model's classes the names of a class map.

    Args:
        model: whose classes exclude each other; what the map does not name keeps its name.
        place: the file, or ``FILE:NAME`` where it holds several maps. Without NAME the only one is taken that has just
            the model's label values.

    Raises:
        DataError: the file can't be read, holds no such map, or the map names values that the model does not have.
    """
    maps, name = read_class_maps(place)
    spec = model.spec
    if spec.regions or spec.activation != "softmax":
        raise DataError("the model's classes overlap; a class map names classes that exclude each other",
                        path=maps.path)  # fmt: skip
    values = range(1, len(spec.class_names))
    names = maps.choose(name, values)
    unknown = sorted(names.keys() - {0, *values})
    if unknown:
        message = f"names the label value {unknown[0]}; the model has 1 to {values.stop - 1}"
        raise DataError(message, path=maps.path, where=escape(name))
    renamed = [spec.class_names[0], *(names.get(value, spec.class_names[value]) for value in values)]
    content = {**spec.model_dump(), "class_names": renamed}
    return replace(model, spec=ModelSpec.model_validate(content))


def _read_maps(path: Path) -> ClassMaps:
    """The class maps of a file."""
    if not path.is_file():
        raise DataError("file not found", path=path)
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"no class map: larger than {MOST_BYTES} bytes", path=path)
    text = read_text(path)
    content = _read_literals(text, path) if path.suffix == ".py" else parse_yaml(text, path)
    maps = dict(_list_maps(content, ()))
    if not maps:
        raise DataError("no class map, such as {1: spleen, 2: liver}", path=path)
    return ClassMaps(path, maps)


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
                value = _evaluate(statement.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue  # computed, so that it is no map written out
            literals[statement.targets[0].id] = value
    return literals


def _evaluate(node: ast.expr) -> Any:
    """The value of what is written out; of a dictionary of dictionaries without the entries that are computed.

    Raises:
        ValueError: it is computed.
    """
    if not isinstance(node, ast.Dict) or not any(isinstance(value, ast.Dict) for value in node.values):
        return ast.literal_eval(node)
    content = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is not None and isinstance(value, ast.Dict):  # else an entry such as class_map["test"]
            with suppress(ValueError):
                content[ast.literal_eval(key)] = _evaluate(value)
    return content


def _list_maps(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[int, str]]]:
    """Every map of label values to names in nested dictionaries, with the keys that lead to it."""
    if not isinstance(content, dict) or not content:
        return
    numbered = {_read_value(key): value for key, value in content.items()}
    if None not in numbered and all(isinstance(value, str) and value.strip() for value in content.values()):
        yield keys, {key: value for key, value in numbered.items() if key is not None}
        return
    for key, value in content.items():
        yield from _list_maps(value, (*keys, str(key)))


def _read_value(key: Any) -> int | None:
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= MOST_DIGITS:
        return int(key)
    return key if isinstance(key, int) and not isinstance(key, bool) else None


def _join(names: Collection[str]) -> str:
    listed = [escape(name) or "one without a name" for name in names]
    return ", ".join(listed[:MOST_NAMES]) + (" …" if len(listed) > MOST_NAMES else "")
