"""The configuration of PlainUnet, the network that ``plan: auto`` lays out by the data's fingerprint."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PositiveInt, model_validator

from voxflow.components.networks.base import Filters, Network
from voxflow.components.registry import register

if TYPE_CHECKING:
    import torch

    from voxflow.components.component import Component

AXES = 3


def _parse_steps(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple(tuple(step) if isinstance(step, list) else (step,) * AXES for step in value)


Steps = Annotated[tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...], BeforeValidator(_parse_steps)]


@register("network", name="PlainUnet")
class PlainUnetNetwork(Network):
    """A U-Net of plain convolutions, each with its norm and a leaky ReLU; strides and kernels may differ by axis.

    A convolution at the image's own resolution costs eight times one a level below, so that ``down`` and ``up`` say
    for each level how many there are; left out: one at the finest level, two below.

    Attributes:
        nf_enc: filters by level, finest first.
        strides: step into each level but the first: a number or one an axis; 2 when left out.
        kernels: size of each level's convolutions: an odd number or one an axis; 3 when left out.
        down: convolutions of each level on the way down.
        up: convolutions of each level but the deepest on the way up, finest first.
        norm: "batch" costs half as much as "instance" on a CPU, and none once exported.
        deep_supervision: while it is trained, the network also answers at its coarser levels, all but the two deepest,
            and the loss judges these as well; model files hold the network without.
    """

    nf_enc: Filters = (16, 32, 64, 128)
    strides: Steps | None = None
    kernels: Steps | None = None
    down: Filters | None = None
    up: Filters | None = None
    norm: Literal["batch", "instance"] = "batch"
    deep_supervision: bool = False

    @classmethod
    def strip_training_parts(cls, component: Component) -> tuple[Component, tuple[str, ...]]:
        """Return a network as inference needs it, and how the names of the weights begin that it then does not have.

        Args:
            component: any network; one without deep supervision comes back as it is.
        """
        if component.name != cls.component_name() or component.path or not component.args.get("deep_supervision"):
            return component, ()
        args = {name: value for name, value in component.args.items() if name != "deep_supervision"}
        return component.model_copy(update={"args": args}), ("heads.",)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        levels = len(self.nf_enc)
        if levels < 2:
            raise ValueError(f"nf_enc needs two levels or more, received {list(self.nf_enc)}")
        counts = {"strides": levels - 1, "kernels": levels, "down": levels, "up": levels - 1}
        for name, count in counts.items():
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{levels} levels need {count} {name}, not {len(values)}")
        even = [size for step in self.kernels or () for size in step if size % 2 == 0]
        if even:
            raise ValueError(f"kernels are odd, received {even[0]}")
        return self

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """The stride into each level but the first, (i, j, k)."""
        return self.strides or ((2, 2, 2),) * (len(self.nf_enc) - 1)

    @property
    def _total_strides(self) -> list[int]:
        return [prod(step[axis] for step in self.steps) for axis in range(AXES)]

    @property
    def divisor(self) -> int:
        """The largest total stride of the three axes."""
        return max(self._total_strides)

    @property
    def divisors(self) -> tuple[int, ...]:
        """``divisor``, but 1 along axes that are never halved."""
        return tuple(1 if total == 1 else self.divisor for total in self._total_strides)

    @property
    def least_size(self) -> tuple[int, ...]:
        """``divisors``."""
        return self.divisors

    @property
    def supervised_levels(self) -> int:
        """Number of coarser levels that answer while the network is trained."""
        return max(0, len(self.nf_enc) - 3) if self.deep_supervision else 0

    @property
    def layout(self) -> dict[str, Any]:
        """What the module is built from, defaults filled in, as plain values."""
        below = len(self.nf_enc) - 1
        return {
            "filters": list(self.nf_enc),
            "strides": [list(step) for step in self.steps],
            "kernels": [list(size) for size in self.kernels or ((3, 3, 3),) * (below + 1)],
            "down": list(self.down or (1,) + (2,) * below),
            "up": list(self.up or (1,) + (2,) * (below - 1)),
            "norm": self.norm,
        }

    def build(self) -> torch.nn.Module:
        """Build it."""
        from voxflow.components.networks.modules.plain_unet import PlainUnet
        from voxflow.components.networks.modules.supervised_unet import SupervisedUnet

        channels = self.in_channels or 1, self.num_classes or 1
        if self.supervised_levels:
            return SupervisedUnet(*channels, supervised=self.supervised_levels, **self.layout)
        return PlainUnet(*channels, **self.layout)
