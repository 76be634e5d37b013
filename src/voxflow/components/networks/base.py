"""What a network is: arguments that are typed before it is built, and an answer that is always logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, Field, PositiveInt

from voxflow.components.catalogue import create
from voxflow.components.component import Component
from voxflow.components.registry import ComponentModel, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from voxflow.components.component import ComponentReference


def _parse_filters(value: Any) -> Any:
    """Clara writes "16,32,64" as well as [16, 32, 64]."""
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


# The package of the torch modules that MONAI has no class for; bundles carry copies of its files.
NETWORK_MODULES = "voxflow.components.networks.modules"
# Arguments of a network that a training fills in; the configuration need not have them.
FILLED = ("in_channels", "num_classes", "out_channels", "input_size")
# Those that change neither the weights of the network in a model file nor its logits.
OUTSIDE = {"final_activation", "pretrain_weight_name", "deep_supervision"}
Filters = Annotated[tuple[PositiveInt, ...], BeforeValidator(_parse_filters), Field(min_length=1)]


class Network(ComponentModel, ABC):
    """A network. What the data decides may be left out and is filled in when training begins.

    Attributes:
        in_channels: channels of the image.
        num_classes: channels of the answer.
        final_activation: what turns logits into probabilities; never part of the network itself.
    """

    channels_last: ClassVar[bool] = True  # measured: whether this layout is faster on a CPU

    in_channels: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    final_activation: Literal["softmax", "sigmoid"] = "softmax"

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """Build the network with fresh weights; both channel counts are known by now.

        In training mode it may leave a further term of the loss in its attribute ``extra_loss``.
        """

    def load_pretrained(self, network: torch.nn.Module) -> str:
        """Fill a fresh network with the weights that the configuration names, and say in one line what came of it.

        Returns:
            "" where the configuration names none.

        Raises:
            DataError: the file can't be read, or nothing in it fits.
        """
        return ""

    @property
    def divisor(self) -> int:
        """Each spatial size of the input must be a multiple of this."""
        return 1

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each spatial size must be a multiple of, axis by axis: ``divisor``, but 1 where no stride is above 1."""
        return (self.divisor,) * self.spatial_dims

    @property
    def least_size(self) -> tuple[int, ...]:
        """The smallest input that the network can take, voxels along (i, j, k) or pixels along (rows, columns).

        By default ``divisor`` along each axis.
        """
        return (self.divisor,) * self.spatial_dims

    @property
    def spatial_dims(self) -> int:
        """3 for volumes, 2 for radiographs."""
        return 3


def network_module_file(name: str) -> Path:
    """Return the file of one of the torch modules below ``networks/modules``.

    It needs torch and MONAI alone, so that a MONAI bundle can carry a copy of it.
    """
    return Path(__file__).with_name("modules") / f"{name}.py"


def read_network(component: ComponentReference) -> Network:
    """Parse the network's arguments, without building it.

    Raises:
        ConfigError: the name or an argument is wrong.

    Example:
        >>> network = read_network(Component(name="SegResnet", args={"blocks_down": [1, 2, 2, 4]}))
        >>> network.divisor, network.least_size
        (8, (8, 8, 8))
    """
    return cast("Network", create("network", component))


def build_network(component: ComponentReference) -> torch.nn.Module:
    """Build a network with fresh weights; it answers with logits (batch, class, ...spatial) or (batch, finding).

    Raises:
        ConfigError: the name or an argument is wrong.
    """
    return read_network(component).build()


def complete_network(
    component: ComponentReference, *, in_channels: int, num_classes: int, patch: Sequence[int] | None = None
) -> Component:
    """The same network component with what the data asks for filled in.

    Args:
        component: the network as the configuration names it.
        in_channels: channels of the images.
        num_classes: channels of the answer.
        patch: the training patch in voxels, for networks that are bound to one size.
    """
    counts: dict[str, Any] = {"in_channels": in_channels, "num_classes": num_classes}
    if patch is not None and "input_size" in type(read_network(component)).model_fields:
        counts["input_size"] = list(patch)
    reference = {key: getattr(component, key) for key in ("where", "path", "custom") if hasattr(component, key)}
    return Component(name=component.name, args={**counts, **component.args}, **reference)


def is_same_network(configured: Component, trained: Component) -> bool:
    """Whether a trained network is the one that a configuration describes.

    Args:
        configured: as the configuration has it.
        trained: as the model file has it, with what the data decided filled in.
    """
    if (plain_name(configured.name), configured.path) != (plain_name(trained.name), trained.path):
        return False
    if configured.path:
        return configured.args == {key: trained.args[key] for key in configured.args if key in trained.args}
    expected, found = read_network(configured).model_dump(), read_network(trained).model_dump()
    ignored = OUTSIDE | {key for key in FILLED if expected.get(key) is None}
    own, other = ({key: value for key, value in args.items() if key not in ignored} for args in (expected, found))
    return own == other
