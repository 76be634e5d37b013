"""A user's own networks: torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.components.custom.base import CustomComponent, adapts
from voxflow.components.custom.code import locate_class, read_constants
from voxflow.components.networks.base import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from voxflow.components.custom.code import LocatedClass


@adapts("network")
class CustomNetwork(CustomComponent, Network):
    """A ``torch.nn.Module`` that answers with logits; the class may say ``divisor`` and ``spatial_dims``."""

    @classmethod
    def kind_arguments(cls, located: LocatedClass, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the network's own arguments.

        ``final_activation`` is the configuration's, else the class's constant, else "sigmoid" for radiographs and
        "softmax" for volumes.
        """
        constants, arguments = read_constants(located), super().kind_arguments(located, args)
        usual = "sigmoid" if constants.get("spatial_dims") == 2 else "softmax"
        return {"final_activation": constants.get("final_activation", usual), **arguments}

    def build(self) -> torch.nn.Module:
        """Make the user's module.

        Raises:
            ConfigError: it is no ``torch.nn.Module``, or its constructor fails.
        """
        import torch

        counts = {"in_channels": self.in_channels, "num_classes": self.num_classes, "out_channels": self.num_classes}
        counts_by_name = {name: value for name, value in counts.items() if value is not None}
        network = self.make(**counts_by_name, final_activation=self.final_activation)
        if not isinstance(network, torch.nn.Module):
            raise self.wrong_answer(network, "a torch.nn.Module")
        return network

    @property
    def divisor(self) -> int:
        """The class's constant ``divisor``; 1 when it has none."""
        return int(_class_constant(self, "divisor", 1))

    @property
    def spatial_dims(self) -> int:
        """The class's constant ``spatial_dims``; 3 when it has none."""
        return int(_class_constant(self, "spatial_dims", 3))


def _class_constant(component: CustomComponent, name: str, otherwise: int) -> Any:
    return read_constants(locate_class(component.path, component.custom)).get(name, otherwise)
