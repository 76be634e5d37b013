"""Owns the names: which component a name means, what kind it is, and which arguments it takes.

A component is one frozen pydantic class: its fields are its arguments, its method does its work and imports torch
or MONAI only then. So a configuration is checked without importing either.
"""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from voxflow.components.fields import FieldUser
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voxflow.components.component import Named

Kind = Literal["transform", "network", "loss", "optimizer", "lr_policy", "metric", "aux_op", "pipeline", "inferer"]


class ComponentModel(FieldUser, BaseModel):
    """The base of every component: arguments are its fields, unknown ones are errors, types are strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def component_name(cls) -> str:
        """The name that configurations use."""
        return cls.__name__


Built = TypeVar("Built", bound=ComponentModel)
_registry: dict[str, dict[str, type[ComponentModel]]] = {}


def register(kind: Kind) -> Callable[[type[Built]], type[Built]]:
    """Class decorator: make a component known under its class name."""

    def add(component: type[Built]) -> type[Built]:
        _registry.setdefault(kind, {})[component.component_name()] = component
        return component

    return add


@functools.cache
def _load() -> None:
    """Import every module of this package once; each registers what it holds."""
    package = importlib.import_module("voxflow.components")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"voxflow.components.{module.name}")


def known(kind: Kind) -> Mapping[str, type[ComponentModel]]:
    """Every component of a kind by name."""
    _load()
    return _registry.get(kind, {})


def kinds_of(name: str) -> list[str]:
    """The kinds under which a name is known; empty when it is unknown."""
    _load()
    return [kind for kind, components in _registry.items() if name in components]


def parse(component: type[Built], args: Mapping[str, Any]) -> Built:
    """Build a component from plain JSON values.

    Raises:
        ValidationError: an argument is missing, unknown or of the wrong type.
    """
    # JSON mode: strict about "1" against 1, while a list may still become a tuple.
    return component.model_validate_json(json.dumps(dict(args)))


def create(kind: Kind, component: Named) -> Any:
    """Build the component that a checked configuration names.

    Raises:
        ConfigError: the name is unknown or the arguments don't fit; configurations that were loaded with
            ``voxflow.config.load_workflow`` never get here.
    """
    components = known(kind)
    if component.name not in components:
        raise ConfigError(f"unknown {kind} {component.name!r}; known: {', '.join(sorted(components))}")
    try:
        return parse(components[component.name], component.args)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{kind} {component.name}: {faults}") from error
