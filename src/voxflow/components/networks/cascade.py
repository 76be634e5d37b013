"""The network of a model that was trained in two stages: those of the first stage, and the one that sees their mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from voxflow.components.component import Component
from voxflow.components.networks.base import Network, build_network
from voxflow.components.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

# How the names of weights begin: "previous.0.", "previous.1.", ... and "last.".
PREVIOUS, LAST = "previous", "last"


def _refuse_cascade(name: str) -> str:
    if name.endswith("Cascade"):
        raise ValueError(f"a stage of a cascade is no cascade, received {name}")
    return name


class StageNetwork(BaseModel):
    """One network of a cascade.

    Attributes:
        name: of Voxflow's or MONAI's; a user's own class lives in its workspace, and not in another one's model file.
        args: its arguments, channel counts filled in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_refuse_cascade)]
    args: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """Build it with fresh weights."""
        return build_network(Component(name=self.name, args=self.args))


@register("network")
class TrainedCascade(Network):
    """The networks of a training in two stages; it runs, and is not trained as a whole.

    Attributes:
        previous: those of the first stage, whose mask is made together.
        last: the one that is shown that mask.
    """

    previous: tuple[StageNetwork, ...] = Field(min_length=1)
    last: StageNetwork

    def build(self) -> torch.nn.Module:
        """Build all of them."""
        from torch.nn import ModuleList

        from voxflow.components.networks.modules.dynamic_unet import CascadedNetworks

        return CascadedNetworks(ModuleList([network.build() for network in self.previous]), self.last.build())


def describe_cascade(previous: Sequence[Component], last: Component) -> Component:
    """Describe a cascade's networks as one component.

    Args:
        previous: the first stage's.
        last: the second stage's, channel counts filled in.
    """
    counts = {key: last.args.get(key) for key in ("in_channels", "num_classes")}
    stages = [{"name": network.name, "args": network.args} for network in (*previous, last)]
    return Component(name="TrainedCascade", args={**counts, PREVIOUS: stages[:-1], LAST: stages[-1]})


def list_first_stages(cascade: Any) -> tuple[torch.nn.Module, ...]:
    """List the networks of a cascade's first stage; several answer together."""
    from torch.nn import ModuleList

    previous = cascade.previous
    return tuple(previous) if isinstance(previous, ModuleList) else (previous,)
