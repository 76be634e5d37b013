"""Owns the names: which component a name means, what kind it is, and which arguments it takes.

A component is one frozen pydantic class: its fields are its arguments, its method does its work and imports torch
or MONAI only then. So a configuration is checked without importing either.

Two dialects use one name for different arguments, so each has its own names: Clara 3's stand in the registry as
they are, TLT 2's as ``tlt2:NAME``, without the module that TLT writes before them (``transforms.``, ``losses.``).
Clara 4's are MONAI's and torch's own classes, ``monai:NAME``; :mod:`voxflow.components.monai.names` finds them.
"""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from voxflow.components.fields import FieldUser
from voxflow.components.refused import refusal
from voxflow.components.sources import MODULES
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voxflow.components.component import Named

Kind = Literal[
    "transform",
    "network",
    "loss",
    "optimizer",
    "lr_policy",
    "metric",
    "aux_op",
    "pipeline",
    "inferer",
    "writer",
    "handler",
    "model_loader",
]
Dialect = Literal["clara3", "tlt2", "clara4"]
_PREFIXES: dict[Dialect, str] = {"clara3": "", "tlt2": "tlt2:", "clara4": "monai:"}


class ComponentModel(FieldUser, BaseModel):
    """The base of every component: arguments are its fields, unknown ones are errors, types are strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def component_name(cls) -> str:
        """Its name in the registry; the class's own name where it has none."""
        return _names.get(cls, cls.__name__)


Built = TypeVar("Built", bound=ComponentModel)
_registry: dict[str, dict[str, type[ComponentModel]]] = {}
_names: dict[type[ComponentModel], str] = {}


def register(kind: Kind, dialect: Dialect = "clara3", *, name: str = "") -> Callable[[type[Built]], type[Built]]:
    """Class decorator: make a component known.

    Args:
        kind: where configurations may name it.
        dialect: whose name and arguments it has.
        name: what configurations call it; the class's name when left out.
    """

    def add(component: type[Built]) -> type[Built]:
        canonical = canonical_name(name or component.__name__, dialect)
        _registry.setdefault(kind, {})[canonical] = component
        _names.setdefault(component, canonical)
        return component

    return add


def canonical_name(name: str, dialect: Dialect) -> str:
    """The name in the registry: ``transforms.LoadNifty`` of TLT 2 becomes ``tlt2:LoadNifty``."""
    return f"{_PREFIXES[dialect]}{name.rpartition('.')[2]}" if dialect != "clara3" else name


def plain_name(name: str) -> str:
    """The name as its dialect writes it: ``tlt2:LoadNifty`` becomes ``LoadNifty``."""
    return name.removeprefix(_PREFIXES[dialect_of(name)])


def dialect_of(name: str) -> Dialect:
    """The dialect that a name of the registry belongs to."""
    return next((d for d, prefix in _PREFIXES.items() if prefix and name.startswith(prefix)), "clara3")


def _load(kind: Kind, dialect: Dialect) -> None:
    """Import every module that holds a dialect's components of a kind; each registers what it holds."""
    for module in MODULES[dialect].get(kind, ()):
        importlib.import_module(module)


def _registered(kind: Kind, name: str) -> type[ComponentModel] | None:
    """A component by its name; modules are imported until one has registered it, since all take a quarter second."""
    for module in MODULES[dialect_of(name)].get(kind, ()):
        if name in _registry.get(kind, {}):
            break
        importlib.import_module(module)
    return _registry.get(kind, {}).get(name)


def known(kind: Kind, dialect: Dialect = "clara3") -> Mapping[str, type[ComponentModel]]:
    """Every component of a kind that a dialect offers, by the name that its configurations write."""
    _load(kind, dialect)
    if dialect == "clara4":
        names: Mapping[str, Any] = importlib.import_module("voxflow.components.monai.names").known(kind)
        return names
    every = _registry.get(kind, {})
    return {plain_name(name): component for name, component in every.items() if dialect_of(name) == dialect}


def find(kind: Kind, name: str) -> type[ComponentModel] | None:
    """The component that a name of the registry means; None when it is unknown."""
    if dialect_of(name) == "clara4":
        _load(kind, "clara4")
        found: type[ComponentModel] | None = importlib.import_module("voxflow.components.monai.names").find(kind, name)
        return found
    return _registered(kind, name)


def kinds_of(name: str) -> list[str]:
    """The kinds under which a name of the registry is known; empty when it is unknown."""
    for kind in get_args(Kind):
        _load(kind, dialect_of(name))
    return [kind for kind in get_args(Kind) if name in _registry.get(kind, {})]


def parse(component: type[Built], args: Mapping[str, Any]) -> Built:
    """Build a component from plain JSON values.

    Raises:
        ValidationError: an argument is missing, unknown or of the wrong type.
    """
    # JSON mode: strict about "1" against 1, while a list may still become a tuple.
    return component.model_validate_json(json.dumps(dict(args)))


def create(kind: Kind, component: Named) -> Any:
    """Build the component that a checked configuration names, or the user's own class that its ``path`` names.

    Raises:
        ConfigError: the name is unknown or the arguments don't fit; configurations that were loaded with
            ``voxflow.config.load_workflow`` never get here.
    """
    if getattr(component, "path", None):
        own = importlib.import_module("voxflow.components.custom.adapters")
        return own.create_own(kind, component)
    model = find(kind, component.name)
    if model is None:
        reason = refusal(plain_name(component.name))
        if reason is not None:
            raise ConfigError(reason)
        names = ", ".join(sorted(known(kind, dialect_of(component.name))))
        raise ConfigError(f"unknown {kind} {plain_name(component.name)!r}; known: {names}")
    try:
        return parse(model, component.args)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{kind} {plain_name(component.name)}: {faults}") from error
