"""Building the component of a user's own class: it is checked without being run, then fitted to its kind."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from pydantic import create_model

from voxflow.components.custom.base import ADAPTERS
from voxflow.components.custom.code import digest_custom_code, find_custom_faults, locate_class
from voxflow.components.sources import MODULES
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.components.custom.base import CustomComponent
    from voxflow.components.custom.code import CustomReference
    from voxflow.components.registry import Kind


def create_custom(kind: Kind, component: CustomReference) -> CustomComponent:
    """Make a component of a user's class; a transform's code runs from here on, the others' once they are built.

    Args:
        kind: where the configuration names it.
        component: names the class by its ``path``.

    Raises:
        ConfigError: the class is not where it may be, or its arguments don't fit.
    """
    faults = [f"{fault.where.removeprefix('.')}: {fault.text}" for fault in find_custom_faults(component, kind)]
    if faults:
        raise ConfigError(f"{kind} {component.path}: {'; '.join(faults)}")
    custom = cast("Path", component.custom)
    located = locate_class(str(component.path), custom)
    for module in MODULES["custom"][kind]:
        importlib.import_module(module)
    adapter = ADAPTERS[kind].fit(located, str(component.path), custom)
    # The class's own name shows in messages, so the adapter bears it.
    model = create_model(located.name, __base__=adapter)
    return model(
        path=str(component.path),
        custom=custom,
        arguments=dict(component.args),
        digest=digest_custom_code(custom),
        **adapter.kind_arguments(located, component.args),
    )
