"""Reading components, as every dialect does it: their form, references between them, custom classes, the check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from voxflow.components import Component, list_component_names
from voxflow.config.check import check_component
from voxflow.findings import show, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from voxflow.components import Dialect, Kind
    from voxflow.config.source import ConfigSource
    from voxflow.findings import FindingCollector

# A section's keys: the kind of component, and whether it is a list of them.
SectionLayout = dict[str, tuple["Kind", bool]]
# What Clara's AutoML writes beside a component's arguments; training uses the arguments.
SEARCH_KEYS = frozenset(("search", "apply"))


@dataclass
class ComponentReader:
    """Reads components of one file, in the form ``{"name": ..., "args": {...}}``; other dialects override parts.

    Attributes:
        findings: where faults are noted.
        custom: the folder of the user's own classes.
        components: every component that was read, faulty or not, in the order of the file.
        by_name: every component of the file by name and by alias, for ``{"ref": ...}``.
    """

    findings: FindingCollector
    custom: Path
    components: list[tuple[Kind, Component]] = field(default_factory=list)
    by_name: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)

    keys: ClassVar[tuple[str, ...]] = ("name", "path", "args", "disabled")
    dialect: ClassVar[Dialect] = "clara3"
    flat: ClassVar[bool] = False  # whether arguments stand beside the name

    @classmethod
    def for_source(cls, source: ConfigSource, config: Mapping[str, Any]) -> Self:
        """Make a reader of a settled configuration, which knows every component that a ``{"ref": ...}`` may mean."""
        reader = cls(source.findings, source.custom, source.components)
        for json_path, component in find_components(config):
            name = str(component.get("name") or str(component.get("path") or "").rpartition(".")[2])
            for word in {name, *_split_alias(name)} - {""}:
                reader.by_name.setdefault(word, []).append((json_path, component))
        return reader

    def read_section(self, section: Mapping[str, Any], layout: SectionLayout, prefix: str) -> dict[str, Any]:
        """Read the components of a section.

        Args:
            section: the object that holds them.
            layout: the keys to read, with their kinds.
            prefix: of their JSON paths, such as ``train.``.

        Returns:
            Components by key, a tuple where the layout has a list; a faulty one is left out and has its finding.
        """
        parts: dict[str, Any] = {}
        for key, (kind, several) in layout.items():
            if key not in section:
                continue
            part = (self.read_list if several else self.read_component)(kind, section[key], f"{prefix}{key}")
            if part is not None:
                parts[key] = part
        return parts

    def read_object(
        self, config: Mapping[str, Any], name: str, layout: SectionLayout, *, needed: Collection[str] = ()
    ) -> dict[str, Any]:
        """Read the section ``name``; unknown keys, and missing ones that are ``needed``, are noted.

        Args:
            config: the settled configuration.
            name: the section's key.
            layout: the keys that may stand in it, with their kinds.
            needed: those that must.

        Returns:
            As :meth:`read_section`; empty where the section is no object.
        """
        section = config.get(name)
        if not isinstance(section, dict):
            message = f"expected an object with {', '.join(layout)}, received {show(section)}"
            self.findings.error("wrong-value", name, message)
            return {}
        for key in section.keys() - layout.keys():
            self.findings.error("unknown-key", f"{name}.{key}", "unknown key", suggest(key, layout, present=section))
        self.require_components(section, layout, needed, f"{name}.")
        return self.read_section(section, layout, f"{name}.")

    def require_components(
        self, section: Mapping[str, Any], layout: SectionLayout, needed: Collection[str], prefix: str = ""
    ) -> None:
        """Note each component that must be there and is missing or disabled."""
        for key in needed:
            if key not in section:
                self.findings.error("missing-component", f"{prefix}{key}", f"missing; a {layout[key][0]} is needed")
            elif isinstance(section[key], dict) and section[key].get("disabled") is True:
                self.findings.error("wrong-value", f"{prefix}{key}", f"disabled, but a {layout[key][0]} is needed")

    def read_list(self, kind: Kind, items: Any, json_path: str) -> tuple[Component, ...]:
        """Read a list of components; disabled ones drop out."""
        if not isinstance(items, list):
            self.findings.error("wrong-value", json_path, f"expected a list of components, received {show(items)}")
            return ()
        read = (self.read_component(kind, item, f"{json_path}[{index}]") for index, item in enumerate(items))
        return tuple(component for component in read if component is not None)

    def read_component(self, kind: Kind, value: Any, json_path: str) -> Component | None:
        """Read and check one component.

        Args:
            kind: what is expected there.
            value: what stands there.
            json_path: where that is.

        Returns:
            The component, with its typed arguments where it has no fault; None when it is disabled or has no such form.
        """
        value, json_path = choose_component(kind, value, json_path, self.findings)
        if value is None:
            return None
        if not isinstance(value, dict):
            message = f"expected an object such as {self.example()}, received {show(value)}"
            self.findings.error("wrong-value", json_path, message)
            return None
        if value.keys() == {"ref"}:
            return self._follow_reference(kind, value["ref"], json_path)
        if value.get("disabled") is True:
            return None
        component = self._read_form(self._move_key_metric(kind, value, json_path), json_path)
        if component is None:
            return None
        if ":" in component.name:
            # The registry writes a dialect so; a configuration is in one dialect, whose names stand alone.
            plain = component.name.rpartition(":")[2]
            message, near = (
                f"unknown {kind} {component.name!r}",
                suggest(plain, list_component_names(kind, self.dialect)),
            )
            self.findings.error("unknown-component", f"{json_path}.name", message, near)
            return None
        return self.check_component(kind, self.resolve_name(kind, component))

    def _move_key_metric(self, kind: Kind, value: dict[str, Any], json_path: str) -> dict[str, Any]:
        """A metric whose ``is_key_metric`` stands beside its arguments, as published files have it, with it in them."""
        args = value.get("args", {})
        if kind != "metric" or "is_key_metric" not in value or self.flat or not isinstance(args, dict):
            return value
        is_key = value["is_key_metric"]
        if args.get("is_key_metric", is_key) != is_key:
            message = f"{show(is_key)}, but its args say {show(args['is_key_metric'])}"
            self.findings.error("wrong-value", f"{json_path}.is_key_metric", message, "say it once")
        rest = {key: item for key, item in value.items() if key != "is_key_metric"}
        return {**rest, "args": {"is_key_metric": is_key, **args}}

    def check_component(self, kind: Kind, component: Component) -> Component:
        """Hold a component against the registry; it then carries its typed arguments, where they have no fault."""
        checked = check_component(kind, component, self.findings)
        self.components.append((kind, checked))
        return checked

    def example(self) -> str:
        """How a component looks, for errors."""
        return '{"name": ..., "args": {...}}'

    def read_arguments(self, content: Mapping[str, Any], json_path: str) -> dict[str, Any] | None:
        """Return the component's arguments; None when they have no such form, which is noted.

        Args:
            content: the component as it stands in the file.
            json_path: where it stands.
        """
        known_keys = {*self.keys, *SEARCH_KEYS}
        for key in content.keys() - known_keys:
            message = "unknown key of a component (arguments stand in args)"
            self.findings.error("unknown-key", f"{json_path}.{key}", message, suggest(key, self.keys, present=content))
        args = content.get("args", {})
        if not isinstance(args, dict):
            self.findings.error("wrong-value", f"{json_path}.args", f"expected an object, received {show(args)}")
            return None
        return None if content.keys() - known_keys else dict(args)

    def resolve_name(self, kind: Kind, component: Component) -> Component:
        """The component under the name that the registry knows it by."""
        return component

    def _read_form(self, content: Mapping[str, Any], json_path: str) -> Component | None:
        """The parts of one component; None when they have no such form."""
        args = self.read_arguments(content, json_path)
        name, path, disabled = content.get("name"), content.get("path"), content.get("disabled", False)
        sound = args is not None
        for key, value in (("name", name), ("path", path)):
            if value is not None and (not isinstance(value, str) or not value):
                self.findings.error("wrong-value", f"{json_path}.{key}", f"expected text, received {show(value)}")
                sound = False
        if name is None and path is None:
            self.findings.error("wrong-value", json_path, "needs a name, or the path of a class of your own")
            sound = False
        if not isinstance(disabled, bool):
            message = f"expected true or false, received {show(disabled)}"
            self.findings.error("wrong-value", f"{json_path}.disabled", message)
            sound = False
        for place in _find_references(args or {}):
            rule = "an argument is a plain value; only a whole component may be a ref"
            self.findings.error("wrong-value", f"{json_path}{'' if self.flat else '.args'}{place}", rule)
            sound = False
        if not sound:
            return None
        self._note_ignored(content, json_path)
        plain, alias = _split_alias(name or "")
        custom = {"path": path, "custom": self.custom} if path else {}
        return Component(
            name=plain or str(path).rpartition(".")[2],
            args=args or {},
            where=json_path,
            alias=alias,
            flat=self.flat,
            **custom,
        )

    def _follow_reference(self, kind: Kind, word: Any, json_path: str) -> Component | None:
        """Read the component that ``{"ref": word}`` means, as if it stood here."""
        matches = self.by_name.get(word, []) if isinstance(word, str) else []
        if not matches:
            message, near = f"no component of this file is named {word!r}", suggest(str(word), self.by_name)
            self.findings.error("unknown-component", f"{json_path}.ref", message, near)
            return None
        if any(content != matches[0][1] for _, content in matches):
            places = ", ".join(place for place, _ in matches)
            fix = f"name one {word}#Alias and refer to that"
            self.findings.error("wrong-value", f"{json_path}.ref", f"{word!r} is ambiguous: {places}", fix)
            return None
        return self.read_component(kind, matches[0][1], json_path)

    def _note_ignored(self, content: Mapping[str, Any], json_path: str) -> None:
        for key in sorted(content.keys() & SEARCH_KEYS):
            message = "AutoML's search is not carried; the component runs with its args"
            self.findings.warning("ignored", f"{json_path}.{key}", message)
        if "name" in content and "path" in content:
            message = f"path decides; the name {content['name']!r} is only a label"
            self.findings.warning("ignored", json_path, message)


def choose_component(kind: str, value: Any, json_path: str, findings: FindingCollector) -> tuple[Any, str]:
    """Choose the one component of a list that takes part, as files of AutoML list losses and optimizers.

    Args:
        kind: what is expected there, for the message.
        value: what stands there; anything but a list is returned as it is.
        json_path: where that is.
        findings: where a list of which none or several take part is noted.

    Returns:
        The component and its JSON path; None and the list's path where it can't be chosen.
    """
    if not isinstance(value, list):
        return value, json_path
    enabled = [n for n, item in enumerate(value) if not (isinstance(item, dict) and item.get("disabled") is True)]
    if len(enabled) == 1:
        return value[enabled[0]], f"{json_path}[{enabled[0]}]"
    search = any(isinstance(item, dict) and item.keys() & SEARCH_KEYS for item in value)
    reason = "; AutoML's search, which would choose, is not carried" if search else ""
    message = f"{len(enabled)} of {len(value)} take part, and exactly one {kind} is needed{reason}"
    findings.error("wrong-value", json_path, message, "set disabled to true in all others")
    return None, json_path


def _split_alias(name: Any) -> tuple[str, str]:
    plain, _, alias = str(name).partition("#")
    return plain, alias


def find_components(value: Any, json_path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every object that names a component, with its JSON path.

    Example:
        >>> config = {"train": {"loss": {"name": "Dice"}, "pre_transforms": [{"path": "custom.steps.Shift"}]}}
        >>> [place for place, _ in find_components(config)]
        ['train.loss', 'train.pre_transforms[0]']
    """
    if isinstance(value, dict):
        if json_path and (isinstance(value.get("name"), str) or isinstance(value.get("path"), str)):
            yield json_path, value
            return
        prefix = f"{json_path}." if json_path else ""
        for key, item in value.items():
            yield from find_components(item, f"{prefix}{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_components(item, f"{json_path}[{index}]")


def _find_references(value: Any, json_path: str = "") -> Iterator[str]:
    """The places of ``{"ref": ...}`` inside arguments."""
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            yield json_path
            return
        for key, item in value.items():
            yield from _find_references(item, f"{json_path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_references(item, f"{json_path}[{index}]")
