"""The configurations of the networks that nnU-Net builds: their arguments are those of its plans.json."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from voxflow.components.component import Component
from voxflow.components.networks.base import Filters, Network, build_network
from voxflow.components.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def _parse_steps(value: Any) -> Any:
    return (
        tuple(tuple(step) if isinstance(step, list) else step for step in value) if isinstance(value, list) else value
    )


Step = tuple[PositiveInt, PositiveInt] | tuple[PositiveInt, PositiveInt, PositiveInt]
Steps = Annotated[tuple[Step, ...], BeforeValidator(_parse_steps), Field(min_length=2)]
Norm = Literal["instance", "batch"]
Activation = Literal["LeakyReLU", "ReLU", "PReLU", "ELU", "GELU", "SiLU"]


class _DynamicUnet(Network):
    """What the networks of dynamic_network_architectures share.

    Attributes:
        features_per_stage: filters of each stage, finest first.
        kernel_sizes: of each stage's convolutions, one number an axis; two numbers make a network of two dimensions.
        strides: into each stage.
        n_conv_per_stage_decoder: convolutions of each stage of the decoder, coarsest first.
        conv_bias: whether convolutions have a bias.
        norm: "instance" or "batch"; None: none.
        norm_args: of torch's class.
        activation: a class of torch.nn; None: none.
        activation_args: of that class.
        folds: networks of one form whose logits are averaged.
    """

    is_residual: ClassVar[bool] = False
    is_residual_up: ClassVar[bool] = False

    features_per_stage: Filters
    kernel_sizes: Steps
    strides: Steps
    n_conv_per_stage_decoder: Filters
    conv_bias: bool = False
    norm: Norm | None = None
    norm_args: dict[str, float | bool | None] = Field(default_factory=dict)
    activation: Activation | None = None
    activation_args: dict[str, float | bool | str] = Field(default_factory=dict)
    folds: PositiveInt = 1

    @property
    @abstractmethod
    def blocks(self) -> tuple[int, ...]:
        """Convolutions, or residual blocks, of each stage of the encoder."""

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        stages = len(self.features_per_stage)
        counts = {
            "kernel_sizes": (len(self.kernel_sizes), stages),
            "strides": (len(self.strides), stages),
            "convolutions or blocks of the encoder": (len(self.blocks), stages),
            "n_conv_per_stage_decoder": (len(self.n_conv_per_stage_decoder), stages - 1),
        }
        for name, (count, expected) in counts.items():
            if count != expected:
                raise ValueError(f"{stages} stages need {expected} {name}, not {count}")
        if len({len(step) for step in (*self.kernel_sizes, *self.strides)}) != 1:
            raise ValueError("kernel_sizes and strides have two numbers everywhere, or three")
        if any(side % 2 == 0 for kernel in self.kernel_sizes for side in kernel):
            raise ValueError("kernel_sizes are odd")
        return self

    @property
    def least_size(self) -> tuple[int, ...]:
        """The total stride of each axis (i, j, k)."""
        totals = [1] * len(self.strides[0])
        for step in self.strides:
            totals = [total * n for total, n in zip(totals, step, strict=True)]
        return (1,) * (3 - len(totals)) + tuple(totals)

    @property
    def divisor(self) -> int:
        """The largest total stride of the three axes."""
        return max(self.least_size)

    @property
    def divisors(self) -> tuple[int, ...]:
        """``divisor``, but 1 along axes that are never halved."""
        return tuple(1 if total == 1 else self.divisor for total in self.least_size)

    def build(self) -> torch.nn.Module:
        """Build it."""
        from voxflow.components.networks.modules.dynamic_unet import AveragedNetworks

        networks = [self._build_one() for _ in range(self.folds)]
        return networks[0] if self.folds == 1 else AveragedNetworks(networks)

    def _build_one(self) -> torch.nn.Module:
        from voxflow.components.networks.modules.dynamic_unet import ConvolutionStyle, DynamicUnet

        style = ConvolutionStyle(
            len(self.strides[0]),
            bias=self.conv_bias,
            norm=self.norm,
            norm_args=self.norm_args,
            activation=self.activation,
            activation_args=self.activation_args,
            is_norm_last=getattr(self, "nonlin_first", False),
        )
        return DynamicUnet(
            style,
            self.in_channels or 1,
            self.num_classes or 1,
            filters=self.features_per_stage,
            kernels=self.kernel_sizes,
            strides=self.strides,
            down=self.blocks,
            up=self.n_conv_per_stage_decoder,
            is_residual=self.is_residual,
            is_residual_up=self.is_residual_up,
            bottlenecks=getattr(self, "bottleneck_channels", ()),
            stem=getattr(self, "stem_channels", None),
        )


@register("network", name="PlainConvUNet")
class PlainConvUnet(_DynamicUnet):
    """nnU-Net's U-Net of plain convolutions.

    Attributes:
        n_conv_per_stage: convolutions of each stage of the encoder.
        nonlin_first: convolution, activation, norm, in the place of convolution, norm, activation.
    """

    n_conv_per_stage: Filters
    nonlin_first: bool = False

    @property
    def blocks(self) -> tuple[int, ...]:
        """See above."""
        return self.n_conv_per_stage


@register("network", name="ResidualEncoderUNet")
class ResidualEncoderUnet(_DynamicUnet):
    """nnU-Net's U-Net with residual blocks on the way down.

    Attributes:
        n_blocks_per_stage: residual blocks of each stage of the encoder.
        bottleneck_channels: features between of each stage's blocks of three convolutions; empty: they have two.
        stem_channels: features of the first convolution; None: those of the first stage.
    """

    is_residual: ClassVar[bool] = True

    n_blocks_per_stage: Filters
    bottleneck_channels: tuple[PositiveInt, ...] = ()
    stem_channels: PositiveInt | None = None

    @property
    def blocks(self) -> tuple[int, ...]:
        """See above."""
        return self.n_blocks_per_stage


@register("network", name="ResidualUNet")
class ResidualUnet(ResidualEncoderUnet):
    """nnU-Net's U-Net with residual blocks on both ways."""

    is_residual_up: ClassVar[bool] = True


class NnunetMember(BaseModel):
    """The network of one stage of a cascade, or of one part of a joined model.

    Attributes:
        name: one of this module's.
        args: its arguments, channel counts filled in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"]
    args: dict[str, Any]

    def build(self) -> torch.nn.Module:
        """Build it."""
        return build_network(Component(name=self.name, args=self.args))


@register("network")
class NnunetCascade(Network):
    """Two networks of nnU-Net, of which the second is shown the mask of the first; it can't be trained.

    Attributes:
        previous: the first one.
        last: the second one.
    """

    previous: NnunetMember
    last: NnunetMember

    def build(self) -> torch.nn.Module:
        """Build both."""
        return join_cascade(self.previous.build(), self.last.build())


@register("network")
class NnunetParts(Network):
    """Networks of nnU-Net whose masks are joined into one, such as TotalSegmentator's; they can't be trained.

    Attributes:
        parts: each one, in the order in which they are written over each other.
    """

    parts: tuple[NnunetMember, ...] = Field(min_length=1)

    def build(self) -> torch.nn.Module:
        """Build all."""
        return join_parts([part.build() for part in self.parts])


def join_parts(networks: Sequence[torch.nn.Module]) -> torch.nn.Module:
    """Make one module of the networks of a joined model, each with its weights."""
    from voxflow.components.networks.modules.dynamic_unet import JoinedNetworks

    return JoinedNetworks(networks)


def join_cascade(previous: torch.nn.Module, last: torch.nn.Module) -> torch.nn.Module:
    """Make one module of a cascade's two networks, each with its weights; it runs the last one."""
    from voxflow.components.networks.modules.dynamic_unet import CascadedNetworks

    return CascadedNetworks(previous, last)
