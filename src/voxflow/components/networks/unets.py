"""The networks of volumes that go down and up again: Unet, SegResnet and TLT's SegmResnet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from voxflow.components.networks.base import Filters, Network
from voxflow.components.registry import register
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    import torch

# The weight of the VAE branch beside the Dice loss in the work that SegResNet comes from (Myronenko, BraTS 2018).
VAE_WEIGHT = 0.1


def _parse_strides(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple(tuple(step) if isinstance(step, list) else (step,) * 3 for step in value)


Strides = Annotated[tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...], BeforeValidator(_parse_strides)]


@register("network")
class Unet(Network):
    """A U-Net in one of two forms, by the length of ``nf_dec``.

    Left out, or the mirror of ``nf_enc``: MONAI's UNet, strided convolutions down, transposed ones up, instance norm
    unless told else. Two longer than ``nf_enc`` or more, as Clara's published configurations have it: the U-Net of
    ``SkipUnet``, with a step down for each entry of ``nf_enc`` and without normalisation unless told else.

    Attributes:
        nf_enc: filters by level, finest first.
        nf_dec: filters of the decoder, coarsest first.
        strides: mirrored form: step between levels, one fewer than ``nf_enc``: a number or one an axis; 2 when
            left out.
        residual_units: mirrored form: convolutions in each level's residual block; 0: one plain convolution.
        use_group_normG: groups; layers that are too narrow for them get fewer.
        dropout: mirrored form: share of features dropped.
    """

    nf_enc: Filters = (16, 32, 64, 128)
    nf_dec: Filters | None = None
    strides: Strides | None = None
    residual_units: NonNegativeInt = 2
    use_batch_norm: bool = False
    use_group_norm: bool = False
    use_group_normG: PositiveInt = 8  # noqa: N815 (Clara's name)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.use_batch_norm and self.use_group_norm:
            raise ValueError("use_batch_norm and use_group_norm exclude each other")
        if self.is_mirrored:
            self._check_mirrored()
        elif self.strides is not None or self.dropout:
            raise ValueError("strides and dropout belong to the form without nf_dec")
        return self

    def _check_mirrored(self) -> None:
        if len(self.nf_enc) < 2:
            raise ValueError(f"nf_enc needs two levels or more, received {list(self.nf_enc)}")
        mirrored, most = self.nf_enc[-2::-1], len(self.nf_enc) + 2
        if self.nf_dec is not None and self.nf_dec != mirrored:
            raise ValueError(
                f"nf_dec must mirror nf_enc: {list(mirrored)}, or have {most} entries or more, "
                f"received {list(self.nf_dec)}"
            )
        if self.strides is not None and len(self.strides) != len(self.nf_enc) - 1:
            raise ValueError(f"{len(self.nf_enc)} levels need {len(self.nf_enc) - 1} strides, not {len(self.strides)}")

    @property
    def is_mirrored(self) -> bool:
        """Whether ``nf_dec`` asks for MONAI's UNet."""
        return self.nf_dec is None or len(self.nf_dec) < len(self.nf_enc) + 2

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """The stride at each step down, (i, j, k)."""
        return self.strides or ((2, 2, 2),) * (len(self.nf_enc) - self.is_mirrored)

    @property
    def divisor(self) -> int:
        """The largest total stride of the three axes."""
        totals = [1, 1, 1]
        for step in self.steps:
            totals = [total * n for total, n in zip(totals, step, strict=True)]
        return max(totals)

    def build(self) -> torch.nn.Module:
        """Build MONAI's UNet, or the published form of Clara's configurations where ``nf_dec`` is that long.

        Returns:
            A module that answers (batch, class, i, j, k) logits; sizes must be multiples of ``divisor``.
        """
        from voxflow.components.networks.modules.norms import with_group_norm

        network = self._build_mirrored() if self.is_mirrored else self._build_published()
        return with_group_norm(network, self.use_group_normG) if self.use_group_norm else network

    def _build_mirrored(self) -> torch.nn.Module:
        from monai.networks.nets import UNet

        network: torch.nn.Module = UNet(
            3,
            self.in_channels,
            self.num_classes,
            self.nf_enc,
            self.steps,
            num_res_units=self.residual_units,
            norm="batch" if self.use_batch_norm or self.use_group_norm else "instance",
            dropout=self.dropout,
        )
        return network

    def _build_published(self) -> torch.nn.Module:
        from voxflow.components.networks.modules.skip_unet import SkipUnet

        norm = "batch" if self.use_batch_norm or self.use_group_norm else None
        return SkipUnet(self.in_channels or 1, self.num_classes or 1, self.nf_enc, self.nf_dec or (), norm=norm)


@register("network")
class SegResnet(Network):
    """MONAI's SegResNet: the residual encoder and light decoder of the BraTS winner, with its VAE branch if asked.

    Attributes:
        init_filters: filters of the first level; each further level has twice as many.
        blocks_down: residual blocks of each level on the way down.
        blocks_up: on the way up, one level fewer.
        dropout_prob: share of the first features dropped.
        use_group_norm: group norm; else batch norm. TLT calls it ``use_groupnorm``.
        use_group_normG: groups; layers that are too narrow for them get fewer.
        reg_weight: L2 penalty of the weights, handed to the optimizer.
        use_vae: a second branch learns to rebuild the image, which steadies the encoder; for training only.
        input_size: the patch that the VAE branch is bound to, (i, j, k); the training patch when left out.
    """

    channels_last: ClassVar[bool] = False

    init_filters: PositiveInt = 8
    blocks_down: Filters = (1, 2, 2, 4)
    blocks_up: Filters = (1, 1, 1)
    dropout_prob: float = Field(default=0.0, ge=0, lt=1)
    use_group_norm: bool = Field(default=True, validation_alias=AliasChoices("use_group_norm", "use_groupnorm"))
    use_group_normG: PositiveInt = Field(  # noqa: N815 (Clara's name)
        default=8, validation_alias=AliasChoices("use_group_normG", "use_groupnormG")
    )
    reg_weight: NonNegativeFloat = 0.0
    use_vae: bool = False
    input_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(f"blocks_up needs one level fewer than blocks_down, received {list(self.blocks_up)}")
        return self

    @property
    def divisor(self) -> int:
        """2 for each level below the first, and once more for the VAE branch."""
        return int(2 ** (len(self.blocks_up) + self.use_vae))

    @property
    def weight_decay(self) -> float:
        """What the optimizer gets."""
        return self.reg_weight

    def build(self) -> torch.nn.Module:
        """Build MONAI's SegResNet, or SegResNetVAE with ``use_vae``.

        Raises:
            ConfigError: ``use_vae`` without a patch size, or with one that the network can't halve often enough.
        """
        from monai.networks.nets import SegResNet

        from voxflow.components.networks.modules.norms import with_group_norm

        network = self._with_vae() if self.use_vae else SegResNet(**self._shared_arguments())
        return with_group_norm(network, self.use_group_normG) if self.use_group_norm else network

    def _shared_arguments(self) -> dict[str, Any]:
        return {
            "spatial_dims": 3,
            "init_filters": self.init_filters,
            "in_channels": self.in_channels,
            "out_channels": self.num_classes,
            "dropout_prob": self.dropout_prob or None,
            "norm": "batch",
            "blocks_down": self.blocks_down,
            "blocks_up": self.blocks_up,
        }

    def _with_vae(self) -> torch.nn.Module:
        from monai.networks.nets import SegResNetVAE

        from voxflow.components.networks.modules.wrappers import WithVae

        size = self.input_size
        if size is None:
            raise ConfigError("use_vae binds the network to one patch: give input_size, or crop to a fixed size")
        if any(n % self.divisor for n in size):
            raise ConfigError(f"input_size {list(size)} is no multiple of {self.divisor}, which the VAE branch needs")
        network = SegResNetVAE(list(size), vae_estimate_std=False, **self._shared_arguments())
        # MONAI makes this layer for estimated deviations only; several processes wait for every weight's gradient.
        network.vae_fc2.requires_grad_(False)
        return WithVae(network, VAE_WEIGHT)


@register("network", dialect="tlt2")
class SegmResnet(SegResnet):
    """TLT's name for SegResnet; ``num_channels`` and ``num_classes`` stand among its globals."""
