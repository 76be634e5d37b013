"""Owns what every dialect's reader does with a component: its parts, references, own classes, the check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from voxflow.components import Component, list_component_names
from voxflow.config.check import check_component
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from voxflow.components import Dialect, Kind
    from voxflow.config.source import Source
    from voxflow.findings import FindingCollector

# A section's keys: the kind of component, and whether it is a list of them.
Layout = dict[str, tuple["Kind", bool]]
# What Clara's AutoML writes beside a component's arguments; training uses the arguments.
SEARCH_KEYS = frozenset(("search", "apply"))


@dataclass
class ComponentReader:
    """Reads components of one file, in the form ``{"name": ..., "args": {...}}``; other dialects override parts.

    Attributes:
        findings: where faults are noted.
        custom: the folder of the user's own classes.
        components: every component that was read, faulty or not, in the order of the file.
        named: every component of the file by name and by alias, for ``{"ref": ...}``.
    """

    findings: FindingCollector
    custom: Path
    components: list[tuple[Kind, Component]] = field(default_factory=list)
    named: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)

    keys: ClassVar[tuple[str, ...]] = ("name", "path", "args", "disabled")
    dialect: ClassVar[Dialect] = "clara3"
    flat: ClassVar[bool] = False  # whether arguments stand beside the name

    @classmethod
    def of(cls, source: Source, config: Mapping[str, Any]) -> ComponentReader:
        """A reader of a settled configuration."""
        reader = cls(source.findings, source.custom, source.components)
        for where, given in components_of(config):
            written = str(given.get("name") or str(given.get("path") or "").rpartition(".")[2])
            for word in {written, *_split_alias(written)} - {""}:
                reader.named.setdefault(word, []).append((where, given))
        return reader

    def section(self, given: Mapping[str, Any], layout: Layout, prefix: str) -> dict[str, Any]:
        """Read what a section holds of the keys in ``layout``; a faulty component is left out and has its finding."""
        parts: dict[str, Any] = {}
        for key, (kind, several) in layout.items():
            if key not in given:
                continue
            where = f"{prefix}{key}"
            part = self.many(kind, given[key], where) if several else self.one(kind, given[key], where)
            if part is not None:
                parts[key] = part
        return parts

    def object(
        self, config: Mapping[str, Any], name: str, layout: Layout, *, needed: Collection[str] = ()
    ) -> dict[str, Any]:
        """Read the section ``name``; unknown keys, and missing ones that are ``needed``, are findings."""
        given = config.get(name)
        if not isinstance(given, dict):
            self.findings.error(
                "wrong-value", name, f"expected an object with {', '.join(layout)}, received {show(given)}"
            )
            return {}
        for key in given.keys() - layout.keys():
            self.findings.error("unknown-key", f"{name}.{key}", "unknown key", suggest(key, layout))
        self.need(given, layout, needed, f"{name}.")
        return self.section(given, layout, f"{name}.")

    def need(self, given: Mapping[str, Any], layout: Layout, needed: Collection[str], prefix: str = "") -> None:
        """Note each component that must be there and is missing or disabled."""
        for key in needed:
            if key not in given:
                self.findings.error("missing-component", f"{prefix}{key}", f"missing; a {layout[key][0]} is needed")
            elif isinstance(given[key], dict) and given[key].get("disabled") is True:
                self.findings.error("wrong-value", f"{prefix}{key}", f"disabled, but a {layout[key][0]} is needed")

    def many(self, kind: Kind, given: Any, where: str) -> tuple[Component, ...]:
        """Read a list of components; disabled ones drop out."""
        if not isinstance(given, list):
            self.findings.error("wrong-value", where, f"expected a list of components, received {show(given)}")
            return ()
        read = (self.one(kind, item, f"{where}[{index}]") for index, item in enumerate(given))
        return tuple(component for component in read if component is not None)

    def one(self, kind: Kind, given: Any, where: str) -> Component | None:
        """Read and check one component; None when it is disabled or faulty."""
        if not isinstance(given, dict):
            message = f"expected an object such as {self.example()}, received {show(given)}"
            self.findings.error("wrong-value", where, message)
            return None
        if given.keys() == {"ref"}:
            return self._referred(kind, given["ref"], where)
        if given.get("disabled") is True:
            return None
        component = self._component(given, where)
        if component is None:
            return None
        if ":" in component.name:
            # The registry writes a dialect so; a configuration is in one dialect, whose names stand alone.
            plain = component.name.rpartition(":")[2]
            message, near = (
                f"unknown {kind} {component.name!r}",
                suggest(plain, list_component_names(kind, self.dialect)),
            )
            self.findings.error("unknown-component", f"{where}.name", message, near)
            return None
        return self.check(kind, self.named_for(kind, component))

    def check(self, kind: Kind, component: Component) -> Component:
        """Hold a component against the registry; it then carries its typed arguments, where they have no fault."""
        checked = check_component(kind, component, self.findings)
        self.components.append((kind, checked))
        return checked

    def example(self) -> str:
        """How a component looks, for errors."""
        return '{"name": ..., "args": {...}}'

    def arguments(self, given: Mapping[str, Any], where: str) -> dict[str, Any] | None:
        """The component's arguments; None when they have no such form."""
        known = {*self.keys, *SEARCH_KEYS}
        for key in given.keys() - known:
            message = "unknown key of a component (arguments stand in args)"
            self.findings.error("unknown-key", f"{where}.{key}", message, suggest(key, self.keys))
        args = given.get("args", {})
        if not isinstance(args, dict):
            self.findings.error("wrong-value", f"{where}.args", f"expected an object, received {show(args)}")
            return None
        return None if given.keys() - known else dict(args)

    def named_for(self, kind: Kind, component: Component) -> Component:
        """The component under the name that the registry knows it by."""
        del kind
        return component

    def _component(self, given: Mapping[str, Any], where: str) -> Component | None:
        """The parts of one component; None when they have no such form."""
        args = self.arguments(given, where)
        name, path, disabled = given.get("name"), given.get("path"), given.get("disabled", False)
        sound = args is not None
        for key, value in (("name", name), ("path", path)):
            if value is not None and (not isinstance(value, str) or not value):
                self.findings.error("wrong-value", f"{where}.{key}", f"expected text, received {show(value)}")
                sound = False
        if name is None and path is None:
            self.findings.error("wrong-value", where, "needs a name, or the path of a class of your own")
            sound = False
        if not isinstance(disabled, bool):
            message = f"expected true or false, received {show(disabled)}"
            self.findings.error("wrong-value", f"{where}.disabled", message)
            sound = False
        for place in _references(args or {}):
            rule = "an argument is a plain value; only a whole component may be a ref"
            self.findings.error("wrong-value", f"{where}{'' if self.flat else '.args'}{place}", rule)
            sound = False
        if not sound:
            return None
        self._note_ignored(given, where)
        plain, alias = _split_alias(name or "")
        own = {"path": path, "custom": self.custom} if path else {}
        return Component(
            name=plain or str(path).rpartition(".")[2], args=args or {}, where=where, alias=alias, flat=self.flat, **own
        )

    def _referred(self, kind: Kind, word: Any, where: str) -> Component | None:
        """Read the component that ``{"ref": word}`` means, as if it stood here."""
        found = self.named.get(word, []) if isinstance(word, str) else []
        if not found:
            message, near = f"no component of this file is named {word!r}", suggest(str(word), self.named)
            self.findings.error("unknown-component", f"{where}.ref", message, near)
            return None
        if any(given != found[0][1] for _, given in found):
            places = ", ".join(place for place, _ in found)
            fix = f"name one {word}#Alias and refer to that"
            self.findings.error("wrong-value", f"{where}.ref", f"{word!r} is ambiguous: {places}", fix)
            return None
        return self.one(kind, found[0][1], where)

    def _note_ignored(self, given: Mapping[str, Any], where: str) -> None:
        for key in sorted(given.keys() & SEARCH_KEYS):
            message = "AutoML's search is not carried; the component runs with its args"
            self.findings.warning("ignored", f"{where}.{key}", message)
        if "name" in given and "path" in given:
            message = f"path decides; the name {given['name']!r} is only a label"
            self.findings.warning("ignored", where, message)


def _split_alias(name: Any) -> tuple[str, str]:
    plain, _, alias = str(name).partition("#")
    return plain, alias


def components_of(value: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object that names a component, with its JSON path."""
    if isinstance(value, dict):
        if where and (isinstance(value.get("name"), str) or isinstance(value.get("path"), str)):
            yield where, value
            return
        prefix = f"{where}." if where else ""
        for key, item in value.items():
            yield from components_of(item, f"{prefix}{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from components_of(item, f"{where}[{index}]")


def _references(value: Any, where: str = "") -> Iterator[str]:
    """The places of ``{"ref": ...}`` inside arguments."""
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            yield where
            return
        for key, item in value.items():
            yield from _references(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, f"{where}[{index}]")
