"""The registry that the library uses: the sources of every dialect, handed to one :class:`Registry`."""

from __future__ import annotations

from voxflow.components.custom.creating import create_custom
from voxflow.components.monai.names import MonaiSource
from voxflow.components.registry import ComponentSource, Registry
from voxflow.components.sources import MODULES

# None of this imports torch or MONAI before a name of Clara 4's is looked up, so that a check starts at once.
_REGISTRY = Registry(
    (
        ComponentSource("clara3", MODULES["clara3"]),
        ComponentSource("tlt2", MODULES["tlt2"]),
        MonaiSource("clara4", MODULES["clara4"]),
    ),
    create_custom,
)
create = _REGISTRY.create
find_component = _REGISTRY.find_component
find_kinds = _REGISTRY.find_kinds
list_component_names = _REGISTRY.list_component_names
