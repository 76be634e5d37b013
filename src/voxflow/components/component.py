"""Owns what a configuration says of one component: its name, its arguments, where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field


class ComponentReference(Protocol):
    """Anything that names a component and its arguments: a :class:`Component`, a ``TransformSpec``."""

    @property
    def name(self) -> str:
        """The component's name in the registry."""

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments as plain JSON values."""


class Component(BaseModel):
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

    @property
    def where_args(self) -> str:
        """The JSON path of its arguments."""
        return self.where if self.flat else f"{self.where}.args"
