"""What a component is, its names, and the registry that finds the class of a name and builds it.

A component is one frozen pydantic class: its fields are its arguments, its method does its work and imports torch
or MONAI only then. So a configuration is checked without importing either.

Two dialects use one name for different arguments, so each has its own names: Clara 3's stand in the registry as
they are, TLT 2's as ``tlt2:NAME``, without the module that TLT writes before them (``transforms.``, ``losses.``).
Clara 4's are MONAI's and torch's own classes, ``monai:NAME``.

A :class:`Registry` knows the sources that it is given and no others: :mod:`voxflow.components.catalogue` makes the
one that the library uses, from the table in :mod:`voxflow.components.sources`.
"""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from voxflow.components.fields import FieldUser
from voxflow.components.refused import explain_refusal
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from voxflow.components.component import ComponentReference
    from voxflow.components.custom.code import CustomReference

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
KINDS: tuple[Kind, ...] = get_args(Kind)
_PREFIXES: dict[Dialect, str] = {"clara3": "", "tlt2": "tlt2:", "clara4": "monai:"}


class ComponentModel(FieldUser, BaseModel):
    """The base of every component: arguments are its fields, unknown ones are errors, types are strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def component_name(cls) -> str:
        """Its name in the registry; the class's own name where it has none."""
        return _names.get(cls, cls.__name__)


Model = TypeVar("Model", bound=ComponentModel)
# Filled by the decorator as modules are imported: kind → name in the registry → class.
_components: dict[Kind, dict[str, type[ComponentModel]]] = {}
_names: dict[type[ComponentModel], str] = {}


def register(kind: Kind, dialect: Dialect = "clara3", *, name: str = "") -> Callable[[type[Model]], type[Model]]:
    """Class decorator: make a component known.

    Args:
        kind: where configurations may name it.
        dialect: whose name and arguments it has.
        name: what configurations call it; the class's name when left out.
    """

    def add(component: type[Model]) -> type[Model]:
        canonical = canonical_name(name or component.__name__, dialect)
        _components.setdefault(kind, {})[canonical] = component
        # A class of two names, such as TLT's LoadNifty, is called by the first: its own dialect's.
        set_component_name(component, canonical)
        return component

    return add


def set_component_name(component: type[ComponentModel], name: str) -> None:
    """Give a class the name that errors and model files call it by; the first one holds."""
    _names.setdefault(component, name)


def canonical_name(name: str, dialect: Dialect) -> str:
    """Return the name in the registry of what a dialect's configuration writes.

    Example:
        >>> canonical_name("transforms.LoadNifty", "tlt2")
        'tlt2:LoadNifty'
        >>> canonical_name("LoadNifti", "clara3")
        'LoadNifti'
    """
    return f"{_PREFIXES[dialect]}{name.rpartition('.')[2]}" if dialect != "clara3" else name


def plain_name(name: str) -> str:
    """Return the name as its dialect writes it.

    Example:
        >>> plain_name("tlt2:LoadNifty")
        'LoadNifty'
    """
    return name.removeprefix(_PREFIXES[dialect_of(name)])


def dialect_of(name: str) -> Dialect:
    """Return the dialect that a name of the registry belongs to.

    Example:
        >>> dialect_of("monai:RandFlipd")
        'clara4'
    """
    return next((d for d, prefix in _PREFIXES.items() if prefix and name.startswith(prefix)), "clara3")


def parse_arguments(component: type[Model], args: Mapping[str, Any]) -> Model:
    """Build a component from plain JSON values.

    Raises:
        ValidationError: an argument is missing, unknown or of the wrong type.
    """
    # JSON mode: strict about "1" against 1, while a list may still become a tuple.
    return component.model_validate_json(json.dumps(dict(args)))


class ComponentSource:
    """The components of one dialect: those that the modules of a table register.

    Attributes:
        dialect: whose names it holds.
        modules: the modules that hold each kind's classes.
    """

    def __init__(self, dialect: Dialect, modules: Mapping[Kind, tuple[str, ...]]) -> None:
        self.dialect, self.modules = dialect, modules

    def find(self, kind: Kind, name: str) -> type[ComponentModel] | None:
        """Return the class of a name.

        Modules are imported until one has registered it, since all of a kind take up to a quarter of a second.

        Args:
            kind: its modules are looked at, no others.
            name: in the registry, such as ``tlt2:LoadNifty``.
        """
        for module in self.modules.get(kind, ()):
            if name in _components.get(kind, {}):
                break
            importlib.import_module(module)
        return _components.get(kind, {}).get(name)

    def names(self, kind: Kind) -> list[str]:
        """Every name of a kind, as the dialect's configurations write it."""
        return [plain_name(name) for name in self.registered_names(kind)]

    def registered_names(self, kind: Kind) -> list[str]:
        """Return the names of the registry that the modules of a kind have registered; imports all of them."""
        for module in self.modules.get(kind, ()):
            importlib.import_module(module)
        return [name for name in _components.get(kind, {}) if dialect_of(name) == self.dialect]


class Registry:
    """Finds and builds components of the dialects whose sources it is given.

    Args:
        sources: one a dialect.
        create_custom: builds a user's class, which a component's ``path`` names.

    Example:
        >>> from voxflow.components import Component, create, find_kinds, list_component_names
        >>> list_component_names("lr_policy")
        ['DecayOnStep', 'ReducePoly', 'ReduceCosine', 'OneCycle']
        >>> find_kinds("DenseNet121")
        ['network']
        >>> create("lr_policy", Component(name="ReducePoly")).factor(step=50, total=100)
        0.5358867312681466
    """

    def __init__(
        self, sources: Iterable[ComponentSource], create_custom: Callable[[Kind, CustomReference], ComponentModel]
    ) -> None:
        self._sources = {source.dialect: source for source in sources}
        self._create_custom = create_custom

    def list_component_names(self, kind: Kind, dialect: Dialect = "clara3") -> list[str]:
        """Return every name of a kind that a dialect offers, as its configurations write it.

        Clara 4 offers MONAI's own classes, so that asking for its names imports MONAI.
        """
        return self._sources[dialect].names(kind)

    def find_component(self, kind: Kind, name: str) -> type[ComponentModel] | None:
        """Return the class that a name means.

        Args:
            kind: where the configuration names it.
            name: in the registry, such as ``tlt2:LoadNifty``.

        Returns:
            None when it is unknown.
        """
        return self._sources[dialect_of(name)].find(kind, name)

    def find_kinds(self, name: str) -> list[Kind]:
        """Return the kinds under which a name of the registry is known; empty when it is unknown.

        A user who writes a loss where a metric is expected is told so.
        """
        source = self._sources[dialect_of(name)]
        return [kind for kind in KINDS if name in source.registered_names(kind)]

    def create(self, kind: Kind, component: ComponentReference) -> Any:
        """Return the component that a configuration names, or the user's own class that its ``path`` names.

        What the reader of a dialect has parsed is returned as it is; anything else is parsed here.

        Raises:
            ConfigError: the name is unknown or the arguments don't fit; configurations that were loaded with
                ``voxflow.config.load_workflow`` never get here.
        """
        typed = getattr(component, "typed", None)
        if typed is not None:
            return typed
        if getattr(component, "path", None):
            return self._create_custom(kind, cast("CustomReference", component))
        model = self.find_component(kind, component.name)
        if model is None:
            raise ConfigError(self._unknown(kind, component.name))
        try:
            return parse_arguments(model, component.args)
        except ValidationError as error:
            faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
            texts = [f"{place}: {message.removeprefix('Value error, ')}" for place, message in faults]
            message = "; ".join(text.removeprefix(": ") for text in texts)
            raise ConfigError(f"{kind} {plain_name(component.name)}: {message}") from error

    def _unknown(self, kind: Kind, name: str) -> str:
        plain = plain_name(name)
        names = ", ".join(sorted(self.list_component_names(kind, dialect_of(name))))
        return str(explain_refusal(plain) or f"unknown {kind} {plain!r}; known: {names}")
