"""Owns the networks: Clara's names and arguments onto MONAI's, always answering with logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from voxflow.components.component import Component
from voxflow.components.registry import ComponentModel, create, register

if TYPE_CHECKING:
    import torch

    from voxflow.components.component import Named


def _filters(value: Any) -> Any:
    """Clara writes "16,32,64" as well as [16, 32, 64]."""
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _strides(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple(tuple(step) if isinstance(step, list) else (step,) * 3 for step in value)


Filters = Annotated[tuple[PositiveInt, ...], BeforeValidator(_filters), Field(min_length=1)]
Strides = Annotated[tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...], BeforeValidator(_strides)]


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
        """Build the network with fresh weights; both channel counts are known by now."""

    @property
    def divisor(self) -> int:
        """Each spatial size of the input must be a multiple of this."""
        return 1

    @property
    def spatial_dims(self) -> int:
        """3 for volumes, 2 for radiographs."""
        return 3


@register("network")
class Unet(Network):
    """A U-Net on MONAI's UNet: strided convolutions down, transposed ones up, instance norm unless told else.

    Attributes:
        nf_enc: filters by level, finest first.
        nf_dec: filters of the decoder; it mirrors the encoder, so leave it out or give just that.
        strides: step between levels, one fewer than ``nf_enc``: a number or one an axis; 2 when left out.
        residual_units: convolutions in each level's residual block; 0: one plain convolution.
        dropout: share of features dropped.
    """

    nf_enc: Filters = (16, 32, 64, 128)
    nf_dec: Filters | None = None
    strides: Strides | None = None
    residual_units: NonNegativeInt = 2
    use_batch_norm: bool = False
    use_group_norm: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if len(self.nf_enc) < 2:
            raise ValueError(f"nf_enc needs two levels or more, received {list(self.nf_enc)}")
        mirrored = self.nf_enc[-2::-1]
        if self.nf_dec is not None and self.nf_dec != mirrored:
            raise ValueError(f"nf_dec must mirror nf_enc: {list(mirrored)}, received {list(self.nf_dec)}")
        if self.strides is not None and len(self.strides) != len(self.nf_enc) - 1:
            raise ValueError(f"{len(self.nf_enc)} levels need {len(self.nf_enc) - 1} strides, not {len(self.strides)}")
        if self.use_batch_norm and self.use_group_norm:
            raise ValueError("use_batch_norm and use_group_norm exclude each other")
        return self

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """The stride between each two levels, (i, j, k)."""
        return self.strides or ((2, 2, 2),) * (len(self.nf_enc) - 1)

    @property
    def divisor(self) -> int:
        """The largest total stride of the three axes."""
        totals = [1, 1, 1]
        for step in self.steps:
            totals = [total * n for total, n in zip(totals, step, strict=True)]
        return max(totals)

    def build(self) -> torch.nn.Module:
        """Build MONAI's UNet."""
        from monai.networks.nets import UNet

        norm: Any = "instance"
        if self.use_group_norm:
            norm = ("group", {"num_groups": min(8, self.nf_enc[0])})
        elif self.use_batch_norm:
            norm = "batch"
        network: torch.nn.Module = UNet(
            3,
            self.in_channels,
            self.num_classes,
            self.nf_enc,
            self.steps,
            num_res_units=self.residual_units,
            norm=norm,
            dropout=self.dropout,
        )
        return network


@register("network")
class SegResnet(Network):
    """MONAI's SegResNet: the residual encoder and light decoder of the BraTS winner, without its VAE."""

    channels_last: ClassVar[bool] = False

    init_filters: PositiveInt = 8
    blocks_down: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    blocks_up: tuple[PositiveInt, ...] = (1, 1, 1)
    dropout_prob: float = Field(default=0.0, ge=0, lt=1)
    use_groupnorm: bool = True

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(f"blocks_up needs one level fewer than blocks_down, received {list(self.blocks_up)}")
        return self

    @property
    def divisor(self) -> int:
        """2 for each level below the first."""
        return int(2 ** len(self.blocks_up))

    def build(self) -> torch.nn.Module:
        """Build MONAI's SegResNet."""
        from monai.networks.nets import SegResNet

        network: torch.nn.Module = SegResNet(
            3,
            self.init_filters,
            self.in_channels,
            self.num_classes,
            dropout_prob=self.dropout_prob or None,
            norm=("group", {"num_groups": min(8, self.init_filters)}) if self.use_groupnorm else "batch",
            blocks_down=self.blocks_down,
            blocks_up=self.blocks_up,
        )
        return network


@register("network")
class SegAhnet(Network):
    """MONAI's AHNet: a 2D ResNet-50 encoder turned 3D, anisotropic decoder, optional pyramid pooling.

    Attributes:
        if_use_psp: pool over four scales before the answer.
        pretrain_weight_name: accepted; Clara's file of ImageNet weights is for TensorFlow, so training
            begins from fresh weights.
        plane: the axis that slices are stacked along; arrays here have it last, "z".
        n_spatial_dim: 3.
    """

    if_use_psp: bool = False
    pretrain_weight_name: str = ""
    plane: Literal["z"] = "z"
    n_spatial_dim: Literal[3] = 3

    @property
    def divisor(self) -> int:
        """The total stride of the encoder in a slice."""
        return 32

    def build(self) -> torch.nn.Module:
        """Build MONAI's AHNet."""
        from monai.networks.nets import AHNet

        return cast(
            "torch.nn.Module",
            AHNet(
                spatial_dims=3,
                in_channels=self.in_channels,
                out_channels=self.num_classes,
                psp_block_num=4 if self.if_use_psp else 0,
                upsample_mode="trilinear",
            ),
        )


class RadiographNetwork(Network):
    """A 2D classifier.

    Attributes:
        weight_decay: L2 penalty, handed to the optimizer.
        data_format: accepted; the memory layout is chosen by what is fastest.
        pretrain_weight_name: accepted; TensorFlow weights can't be read, training begins from fresh ones.
    """

    final_activation: Literal["softmax", "sigmoid"] = "sigmoid"
    weight_decay: float = Field(default=0.0, ge=0)
    data_format: Literal["channels_first", "channels_last"] = "channels_first"
    pretrain_weight_name: str = ""
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def spatial_dims(self) -> int:
        """2: radiographs."""
        return 2


@register("network")
class DenseNet121(RadiographNetwork):
    """MONAI's DenseNet-121: 6, 12, 24 and 16 layers that each add 32 features."""

    def build(self) -> torch.nn.Module:
        """Build MONAI's DenseNet121."""
        from monai.networks.nets import DenseNet121 as MonaiDenseNet121

        return cast(
            "torch.nn.Module",
            MonaiDenseNet121(2, self.in_channels, self.num_classes, dropout_prob=self.dropout),
        )


@register("network")
class DenseNet(RadiographNetwork):
    """MONAI's DenseNet of any size, for small data and small machines.

    Attributes:
        init_features: filters of the first convolution.
        growth_rate: features that each layer adds.
        block_config: layers of each block.
    """

    init_features: PositiveInt = 32
    growth_rate: PositiveInt = 16
    block_config: tuple[PositiveInt, ...] = (4, 8, 8, 4)

    def build(self) -> torch.nn.Module:
        """Build MONAI's DenseNet."""
        from monai.networks.nets import DenseNet as MonaiDenseNet

        return cast(
            "torch.nn.Module",
            MonaiDenseNet(
                2,
                self.in_channels,
                self.num_classes,
                init_features=self.init_features,
                growth_rate=self.growth_rate,
                block_config=self.block_config,
                dropout_prob=self.dropout,
            ),
        )


def read_network(component: Named) -> Network:
    """The network's arguments, typed, without building it."""
    return cast("Network", create("network", component))


def build_network(component: Named) -> torch.nn.Module:
    """Build a network with fresh weights; it answers with logits (batch, class, ...spatial) or (batch, finding).

    Raises:
        ConfigError: the name or an argument is wrong.
    """
    return read_network(component).build()


def complete_network(component: Named, *, in_channels: int, num_classes: int) -> Component:
    """The same network component with the channel counts that the data asks for filled in."""
    counts = {"in_channels": in_channels, "num_classes": num_classes}
    kept = {key: getattr(component, key) for key in ("where", "path", "custom") if hasattr(component, key)}
    return Component(name=component.name, args={**counts, **component.args}, **kept)
