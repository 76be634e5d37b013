"""Follows the references of a bundle's configuration without running it: ``@id``, ``%id``, and what a stage reaches.

MONAI builds what ``initialize``, ``run`` and ``finalize`` refer to, directly or through other ids, and nothing else.
So a fault that a stage reaches stops it, and the same fault elsewhere does not.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voxflow.bundle.reading import (
    SEPARATOR,
    find_macro_file,
    get_item,
    has_item,
    read_config_file,
    walk,
    walk_texts,
)
from voxflow.findings import FaultyConfigError, Finding, nearest_name
from voxflow.texts import MOST_VALUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from voxflow.bundle.reading import BundleConfig
    from voxflow.findings import Severity

TARGET, EXPRESSION, MACRO = "_target_", "$", "%"
METADATA = "_meta_"  # where MONAI puts the content of metadata.json
# Of a configuration with thousands of faults, the first ones alone get advice.
MOST_ADVICE = 40


@dataclass
class StageReading:
    """The configuration of one stage, as far as it can be read without running it.

    Attributes:
        bundle: its folder.
        stage: "train", "evaluate" or "infer".
        config: the merged configurations; macros are expanded, and the stage's own values stand in it.
        unread: configurations of the bundle that the stage does not read, by their file.
        findings: what is wrong.
        reached: the ids that the stage builds.
    """

    bundle: Path
    stage: str
    config: BundleConfig
    unread: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)

    @property
    def content(self) -> dict[str, Any]:
        """The values by id."""
        return self.config.content

    def note(self, severity: Severity, code: str, name: str, message: str, fix: str = "") -> None:
        """Note a finding at an id, in the file that sets it."""
        self.findings.append(Finding(code, severity, self.config.find_file(name), name, message, fix))

    def note_reached(self, code: str, name: str, message: str, fix: str = "") -> None:
        """Note an error where the stage builds the id, else a warning."""
        self.note("error" if name in self.reached else "warning", code, name, message, fix)

    def list_texts(self) -> Iterator[tuple[str, str]]:
        """List all texts of the configuration with their ids; those of the metadata where a stage reaches them."""
        for name, text in walk_texts(self.content):
            if not name.startswith(METADATA) or name in self.reached:
                yield name, text

    def list_components(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """List all objects with a ``_target_``, but those that are switched off."""
        for name, value in walk(self.content):
            if isinstance(value, dict) and TARGET in value and not _is_disabled(value):
                yield name, value


def _is_disabled(component: Mapping[str, Any]) -> bool:
    value = component.get("_disabled_", False)
    return value.strip().lower() == "true" if isinstance(value, str) else value is True


def list_references(text: str) -> list[str]:
    """List the ids that a text refers to.

    Example:
        >>> list_references("$@train#dataset.data + [@extra]"), list_references("mail@example.org")
        (['train#dataset', 'extra'], [])
    """
    from monai.bundle import ReferenceResolver

    # A bare "@" is the whole configuration.
    return [name.replace("::", SEPARATOR) for name in ReferenceResolver.match_refs_pattern(text)]


def expand_macros(reading: StageReading) -> None:
    """Put the values of ``%id`` and ``%file.json::id`` in their places, and absolute ids in those of relative ones."""
    budget = MOST_VALUES

    def expand(value: Any, name: str) -> Any:
        nonlocal budget
        if isinstance(value, dict | list):
            for key, child in list(value.items() if isinstance(value, dict) else enumerate(value)):
                value[key] = expand(child, f"{name}{SEPARATOR}{key}" if name else str(key))
            return value
        if not isinstance(value, str):
            return value
        text = _resolve_relative(value, name, reading)
        if not text.startswith(MACRO):
            return text
        copied = _find_macro(text[len(MACRO) :], name, reading)
        budget -= sum(1 for _ in walk(copied))
        if budget < 0:
            raise FaultyConfigError.of(
                Finding("syntax", "error", reading.config.first, name, f"macros make more than {MOST_VALUES:,} values")
            )
        return copied

    expand(reading.content, "")


def _resolve_relative(text: str, name: str, reading: StageReading) -> str:
    """A text with ``@##id`` as ``@id``; every ``#`` in it becomes ``::``, as MONAI does it."""
    from monai.bundle import ConfigParser

    try:
        return str(ConfigParser.resolve_relative_ids(name.replace(SEPARATOR, "::"), text))
    except ValueError:
        message = f"{text!r} leads above the top of the configuration"
        reading.note("error", "unresolved-reference", name, message, "take a '#' away: '@#id' is beside, '@##id' above")
        return ""


def _find_macro(text: str, name: str, reading: StageReading) -> Any:
    """A copy of what a macro names; its own text where that is not there, which is noted."""
    from monai.bundle import ConfigParser

    path, item = ConfigParser.split_path_id(text)
    item = item.replace("::", SEPARATOR)
    content: Any = reading.content
    if path:
        try:
            content = read_config_file(find_macro_file(path, reading.bundle))
        except FaultyConfigError as error:
            reading.note("error", "unresolved-reference", name, f"'%{text}': {error}")
            return text
    if not has_item(content, item):
        place = f" in {path}" if path else ""
        reading.note("error", "unresolved-reference", name, f"'%{item}': no such id{place}", _suggest(item, content))
        return text
    return deepcopy(get_item(content, item))


def trace_stage(reading: StageReading, roots: Sequence[str]) -> None:
    """Find what a stage builds, and note the references that go round in a circle.

    Args:
        reading: its ``reached`` is filled.
        roots: the ids that the stage asks for; those that are not there are left out.
    """
    finished: set[str] = set()
    for root in [name for name in roots if has_item(reading.content, name)]:
        # The ids on the way from the root, each with those that it still waits for.
        path: dict[str, Iterator[str]] = {root: _list_edges(reading, root)}
        while path:
            current = next(reversed(path))
            name = next(path[current], None)
            if name is None:
                finished.add(current)
                del path[current]
            elif name in path:
                names = list(path)
                circle = " → ".join([*names[names.index(name) :][:MOST_ADVICE], name])
                reading.note("error", "circular-reference", name, f"refers to itself: {circle}")
            elif name not in finished and has_item(reading.content, name):
                path[name] = _list_edges(reading, name)


def _list_edges(reading: StageReading, name: str) -> Iterator[str]:
    """The ids that MONAI resolves before one: those that it refers to, and the components and expressions inside."""
    edges: dict[str, None] = {}
    for place, value in walk(get_item(reading.content, name), name):
        reading.reached.add(place)
        if isinstance(value, str):
            edges |= dict.fromkeys(list_references(value))
        is_component = isinstance(value, dict) and TARGET in value
        if place != name and (is_component or (isinstance(value, str) and value.startswith(EXPRESSION))):
            edges[place] = None
    return iter(edges)


def check_references(reading: StageReading) -> None:
    """Note every ``@id`` that the configuration lacks."""
    count = 0
    for name, text in reading.list_texts():
        for reference in list_references(text):
            if not has_item(reading.content, reference):
                count += 1
                advice = _advise(reading, reference) if count <= MOST_ADVICE else ""
                reading.note_reached("unresolved-reference", name, f"'@{reference}': no such id", advice)


def _advise(reading: StageReading, reference: str) -> str:
    """The nearest id; else the other configuration of the bundle that has it."""
    near = _suggest(reference, reading.content)
    holders = [file for file, content in reading.unread.items() if has_item(content, reference)]
    if near or not holders:
        return near
    # The shortest name is the base of those that only override.
    file = min(holders, key=lambda path: (len(path.name), path.name))
    return f"{file.relative_to(reading.bundle).as_posix()} has it: list it first in `{reading.stage}.config`"


def _suggest(name: str, content: Any) -> str:
    depth = name.count(SEPARATOR)
    near = nearest_name(name, {id_ for id_, _ in walk(content) if id_ and id_.count(SEPARATOR) == depth})
    return f"write {near!r}" if near else ""
