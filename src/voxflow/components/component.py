"""One component as a configuration names it: its name, its arguments, and its place in the file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.components.registry import ComponentModel


class ComponentReference(Protocol):
    """Anything that names a component and its arguments: a :class:`Component`, a ``TransformSpec``."""

    @property
    def name(self) -> str:
        """The component's name in the registry."""

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments as plain JSON values."""


class Component(BaseModel):  # noqa: PLW1641 (its arguments are a dict, which has no hash)
    """One component of a configuration.

    Attributes:
        name: its name in the registry; the class's name where ``path`` names a user's own.
        args: its arguments, variables substituted.
        disabled: it takes no part; readers drop it.
        where: the JSON path in its file, such as ``train.pre_transforms[3]``.
        path: a user's own class as the configuration writes it, such as ``custom.losses.Weighted``; None for
            components of the registry.
        custom: the workspace's folder ``custom/``, the only one that ``path`` is looked for in.
        flat: its arguments stand beside its name, as TLT 2 writes them.
        alias: what ``Name#Alias`` calls it, for ``{"ref": "Alias"}`` elsewhere in the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    disabled: bool = False
    where: str = ""
    path: str | None = None
    custom: Path | None = None
    alias: str = ""
    flat: bool = False

    # Private, so that no file can bring it along: what is built is parsed from ``args`` and nothing else.
    _typed: Any = PrivateAttr(default=None)

    @property
    def typed(self) -> ComponentModel | None:
        """Its arguments as the registry's class, as the reader of its dialect has parsed them; None: nobody has."""
        typed: ComponentModel | None = self._typed
        return typed

    def with_typed(self, typed: ComponentModel) -> Component:
        """Return the same component with its parsed arguments; whoever builds it then takes them as they are.

        Args:
            typed: the registry's class with ``args`` parsed into it; nobody parses them again.
        """
        carrier = self.model_copy()
        carrier._typed = typed
        return carrier

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the component, with some fields changed.

        A change leaves the parsed arguments behind, which might no longer fit.
        """
        changed = super().model_copy(update=update, deep=deep)
        if update:
            changed._typed = None
        return changed

    # What was parsed follows from the arguments, and may hold what can't be pickled (MONAI's objects, one a thread):
    # comparing and pickling leave it out, a copy shares it.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Component) and self.__dict__ == other.__dict__

    def __getstate__(self) -> dict[Any, Any]:
        return super().__getstate__() | {"__pydantic_private__": {"_typed": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        fields = copy.deepcopy(self.__dict__, memo)
        deep = type(self).model_construct(self.model_fields_set, **fields)
        deep._typed = self._typed
        return deep

    @property
    def where_args(self) -> str:
        """The JSON path of its arguments."""
        return self.where if self.flat else f"{self.where}.args"
