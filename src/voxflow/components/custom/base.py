"""What the components of a user's classes have in common: making the object, guarding its calls."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path  # noqa: TC003 (pydantic reads annotations at run time)
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from voxflow.components.custom.code import OFFERED_ARGUMENTS, load_class
from voxflow.components.registry import ComponentModel
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voxflow.components.custom.code import LocatedClass
    from voxflow.components.registry import Kind
    from voxflow.components.transforms.base import Sample


class CustomComponent(ComponentModel):
    """What every component of a user's class holds.

    Attributes:
        kind: where configurations may name the class.
        path: the class, as the configuration writes it.
        custom: the workspace's folder ``custom/``.
        arguments: keywords of its constructor.
        digest: of all code in that folder, so that what was cached of one version is not taken for another's.
    """

    kind: ClassVar[Kind]

    path: str
    custom: Path = Field(exclude=True)
    arguments: dict[str, Any] = Field(default_factory=dict)
    digest: str = ""

    @classmethod
    def fit(cls, located: LocatedClass, path: str, custom: Path) -> type[CustomComponent]:
        """Return the adapter for a user's class; a kind that has several overrides this.

        Args:
            located: the class, unrun.
            path: the class, as the configuration writes it.
            custom: the workspace's folder ``custom/``.
        """
        return cls

    @classmethod
    def kind_arguments(cls, located: LocatedClass, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that the adapter itself needs, such as a metric's name.

        Args:
            located: the class, unrun.
            args: all arguments of the configuration; the class's constructor may take these, too.
        """
        names = cls.model_fields.keys() - CustomComponent.model_fields.keys()
        return {name: args[name] for name in args if name in names}

    def make(self, *positional: Any, **defaults: Any) -> Any:
        """Make the user's object.

        Args:
            positional: handed to the constructor first.
            defaults: values of Voxflow's own; they reach the constructor where it names them, and yield to the
                configuration's.

        Raises:
            ConfigError: the class can't be imported, or its constructor fails.
        """
        custom_class = load_class(self.path, self.custom)
        offered = OFFERED_ARGUMENTS[self.kind]
        keywords = {**defaults, **self.arguments}
        untaken = [name for name in keywords if name in offered and not takes_argument(custom_class, name)]
        accepted = {name: value for name, value in keywords.items() if name not in untaken}
        return self.guard(custom_class, *positional, **accepted)

    def guard(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call the user's code and return what it returns.

        Raises:
            ConfigError: it has failed, with whatever exception; one line that names the class and the line of its file.
        """
        try:
            return function(*args, **keywords)
        except Exception as error:  # a user's class may raise anything; it is the user's to mend
            frames = traceback.extract_tb(error.__traceback__)
            home = str(self.custom.resolve())
            lines = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename.startswith(home)]
            place = lines[-1] if lines else str(self.custom)
            raise ConfigError(f"{self.path} failed: {type(error).__name__}: {error}", path=place) from error

    def wrong_answer(self, returned: Any, expected: str) -> ConfigError:
        """Return the error that says what the user's code returned, and what was expected."""
        return ConfigError(f"{self.path} gave a {type(returned).__name__}, expected {expected}", path=self.custom)


Adapter = TypeVar("Adapter", bound=CustomComponent)
ADAPTERS: dict[Kind, type[CustomComponent]] = {}


def adapts(kind: Kind) -> Callable[[type[Adapter]], type[Adapter]]:
    """Class decorator: this class fits a user's class to a kind of component."""

    def add(adapter: type[Adapter]) -> type[Adapter]:
        adapter.kind = kind
        ADAPTERS[kind] = adapter
        return adapter

    return add


def takes_argument(function: Any, name: str) -> bool:
    """Return whether a function or class takes a parameter of this name; no where its signature can't be read."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def copy_sample(sample: Sample) -> Sample:
    """Return a sample that may be written into, so that what is cached stays as it is.

    Arrays are copied, everything else is shared.
    """
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in sample.items()}


def to_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as NumPy arrays, everything else as it is."""
    return {
        name: np.asarray(value.detach().cpu()) if hasattr(value, "detach") else value for name, value in values.items()
    }
