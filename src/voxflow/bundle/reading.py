"""Reads a bundle's configurations as data: JSON and YAML, with the place of a fault, merged as MONAI merges them.

Nothing of a bundle is run here. The check reads by these functions, and so does MONAI while a stage runs a bundle
(:func:`use_bundle`), so that both take the same files: with a byte-order mark, and with ``%file.json::id`` from the
bundle's folder, where MONAI's own command line is started.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.bundle.packages import name_missing_packages
from voxflow.errors import DataError
from voxflow.findings import FaultyConfigError, Finding, FindingCollector, suggest
from voxflow.texts import MOST_LEVELS, check_yaml, decode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
SEPARATOR = "#"  # MONAI writes "::", too
MERGE = "+"


@dataclass
class BundleConfig:
    """Configurations of a bundle, merged.

    Attributes:
        content: values by id.
        first: the file of what none of them sets.
        origins: for each id that a file sets, the number of the setting, and the file; the last one counts.
        count: of settings.
    """

    content: dict[str, Any]
    first: Path
    origins: dict[str, tuple[int, Path]] = field(default_factory=dict)
    count: int = 0

    def set_origin(self, name: str, file: Path) -> None:
        """Note that a file sets an id, later than all before."""
        self.origins.pop(name, None)
        self.count += 1
        self.origins[name] = (self.count, file)

    def find_file(self, name: str) -> Path:
        """Return the file that an id comes from.

        Example:
            >>> config = BundleConfig({}, Path("a.json"))
            >>> config.set_origin("train", Path("a.json"))
            >>> config.set_origin("train#amp", Path("b.json"))
            >>> config.find_file("train#amp").name, config.find_file("train#trainer").name
            ('b.json', 'a.json')
        """
        parts = split_id(name)
        ids = (SEPARATOR.join(parts[:count]) for count in range(1, len(parts) + 1))
        return max((self.origins[id_] for id_ in ids if id_ in self.origins), default=(0, self.first))[1]


def split_id(name: str) -> list[str]:
    """Split an id at its separators, ``#`` or ``::``.

    Example:
        >>> split_id("train::trainer#max_epochs")
        ['train', 'trainer', 'max_epochs']
    """
    return name.replace("::", SEPARATOR).split(SEPARATOR)


def get_item(content: Any, name: str) -> Any:
    """Return the value of an id.

    Raises:
        KeyError: there is none.
    """
    for part in split_id(name) if name else ():
        if isinstance(content, dict) and part in content:
            content = content[part]
        elif isinstance(content, list) and part.isdecimal() and int(part) < len(content):
            content = content[int(part)]
        else:
            raise KeyError(name)
    return content


def has_item(content: Any, name: str) -> bool:
    """Whether an id has a value."""
    try:
        get_item(content, name)
    except KeyError:
        return False
    return True


def set_item(content: dict[str, Any], name: str, value: Any) -> None:
    """Set the value of an id, whose parent must be there.

    Raises:
        KeyError: it is not; the argument is the parent's id.
    """
    *parents, last = split_id(name)
    parent = get_item(content, SEPARATOR.join(parents))
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list) and last.isdecimal() and int(last) < len(parent):
        parent[int(last)] = value
    else:
        raise KeyError(SEPARATOR.join(parents))


def walk(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """List a value and all that it holds, each with its id.

    Example:
        >>> list(walk({"a": [1, {"b": 2}]}))[2:]
        [('a#0', 1), ('a#1', {'b': 2}), ('a#1#b', 2)]
    """
    yield name, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from walk(child, f"{name}{SEPARATOR}{key}" if name else str(key))


def walk_texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """List the texts among a value and all that it holds, each with its id."""
    return ((id_, text) for id_, text in walk(value, name) if isinstance(text, str))


def read_config_file(path: Path, findings: FindingCollector | None = None) -> dict[str, Any]:
    """Read one configuration: JSON or YAML, by its name.

    Args:
        path: the file.
        findings: gets a warning where a key stands twice; None: nobody wants it.

    Raises:
        FaultyConfigError: it is missing, no UTF-8, no JSON or YAML, no object of named values, or endless.
    """
    from voxflow.files import read_text

    if path.suffix.lower() not in CONFIG_SUFFIXES:
        raise _fault(path, "unreadable-file", f"a configuration ends in {', '.join(CONFIG_SUFFIXES)}")
    try:
        if not path.is_file():
            raise _fault(path, "missing-file", "file not found")
        text = read_text(path)
    except (OSError, ValueError, DataError) as error:
        raise _fault(path, "unreadable-file", error.message if isinstance(error, DataError) else str(error)) from error
    try:
        content, repeated = _parse_json(text, path) if path.suffix.lower() == ".json" else _parse_yaml(text, path)
    except RecursionError as error:
        raise _fault(path, "syntax", f"nested deeper than {MOST_LEVELS} levels") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _fault(path, "syntax", f"expected named values, received {_describe(content)}")
    for key in repeated:
        if findings:
            findings.warning("repeated-key", "", f"the key {key!r} stands twice; the last one counts")
    return content


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"the name {next(key for key in content if not isinstance(key, str))!r}"
    return "nothing" if content is None else f"a {type(content).__name__}"


def _fault(path: Path, code: str, message: str, place: str = "", fix: str = "") -> FaultyConfigError:
    return FaultyConfigError.of(Finding(code, "error", path, place, message, fix))


def _parse_json(text: str, path: Path) -> tuple[Any, list[str]]:
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            repeated.extend(sorted(name for name, count in counts.items() if count > 1))
        return content

    try:
        return decode_json(text, collect), repeated
    except DataError as error:
        raise _fault(path, "syntax", error.message) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fix = "mend the JSON there; it has no comments and no trailing commas"
        raise _fault(path, "syntax", f"no valid JSON: {error.msg}", place, fix) from error


def _parse_yaml(text: str, path: Path) -> tuple[Any, list[str]]:
    import yaml
    from monai.utils.misc import CheckKeyDuplicatesYamlLoader

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_yaml(text, may_repeat=True)
            content = yaml.load(text, CheckKeyDuplicatesYamlLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, TypeError, ValueError) as error:  # an unhashable key; a date that is none
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _fault(path, "syntax", f"no valid YAML: {reason}", place, "mend the YAML there") from error
    texts = [str(warning.message) for warning in caught]
    return content, [text.split("`")[1] for text in texts if text.startswith("Duplicate key: `")]


def merge_config_files(files: Sequence[Path], findings: FindingCollector | None = None) -> BundleConfig:
    """Read configurations one over the other, as MONAI does.

    A key replaces the value of its id: ``train#trainer#amp``. A key with ``+`` before it adds to a list or an object.

    Args:
        files: the first is the base.
        findings: gets warnings; None: nobody wants them.

    Raises:
        FaultyConfigError: a file can't be read, or sets something inside of what is not there.
    """
    merged = BundleConfig({}, files[0])
    for file in files:
        notes = FindingCollector(file, findings.findings) if findings else None
        for key, value in read_config_file(file, notes).items():
            name = SEPARATOR.join(split_id(key.removeprefix(MERGE)))
            if key.startswith(MERGE) and has_item(merged.content, name):
                _extend(merged, name, value, file)
                continue
            if key.startswith(MERGE) and notes:
                notes.warning("override", name, "no such id to add to; the value stands by itself")
            _replace(merged, name, value, file)
    return merged


def _replace(merged: BundleConfig, name: str, value: Any, file: Path) -> None:
    try:
        set_item(merged.content, name, value)
    except KeyError as error:
        parent = str(error.args[0])
        advice = suggest(parent, [id_ for id_, item in walk(merged.content) if isinstance(item, dict | list) and id_])
        message = f"sets a value inside of {parent!r}, which is not there"
        fault = Finding("override", "error", file, name, message, advice.nearest and advice.fix, advice.nearest)
        raise FaultyConfigError.of(fault, f"{message}{advice if advice.nearest else ''}") from None
    merged.set_origin(name, file)


def _extend(merged: BundleConfig, name: str, value: Any, file: Path) -> None:
    target = get_item(merged.content, name)
    if isinstance(target, dict) and isinstance(value, dict):
        keys = list(value)
        target.update(value)
    elif isinstance(target, list) and isinstance(value, list):
        keys = [str(len(target) + n) for n in range(len(value))]
        target.extend(value)
    else:
        message = f"adds a {type(value).__name__} to a {type(target).__name__}; both must be lists or both objects"
        raise _fault(file, "override", message, name)
    for key in keys:
        merged.set_origin(f"{name}{SEPARATOR}{key}", file)


@contextlib.contextmanager
def use_bundle(bundle: Path) -> Iterator[None]:
    """Let MONAI read configurations by this module, and import the bundle's own modules, while the block runs.

    Args:
        bundle: its folder; relative paths of ``%file.json::id`` are looked for there first.

    Raises:
        MissingDependencyError: the bundle needs a package that is not installed; the message says how to get it.
    """
    from monai.bundle import ConfigParser

    def load_file(_class: type, filepath: Any, **_options: Any) -> dict[str, Any]:
        return read_config_file(find_macro_file(str(filepath), bundle)) if filepath else {}

    def load_files(_class: type, files: Any, **_options: Any) -> dict[str, Any]:
        if isinstance(files, dict):
            return files
        if isinstance(files, str) and not Path(files).is_file() and "," in files:
            files = files.split(",")
        paths = [files] if isinstance(files, str | Path) else files
        return merge_config_files([Path(path) for path in paths]).content if paths else {}

    functions: dict[str, Any] = {"load_config_file": load_file, "load_config_files": load_files}
    with contextlib.ExitStack() as stack:
        stack.enter_context(name_missing_packages())
        stack.callback(sys.path.__setitem__, slice(None), list(sys.path))
        sys.path.insert(0, str(bundle.resolve()))
        for name, function in functions.items():
            stack.callback(setattr, ConfigParser, name, ConfigParser.__dict__[name])
            setattr(ConfigParser, name, classmethod(function))
        yield


def find_macro_file(path: str, bundle: Path) -> Path:
    """Return the file that ``%path::id`` names: in the bundle's folder, else from the present folder."""
    inside = bundle / path
    try:
        return inside if inside.is_file() else Path(path)
    except (OSError, ValueError):  # no name of a file
        return Path(path)
