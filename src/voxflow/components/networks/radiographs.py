"""The networks that classify radiographs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field, PositiveInt

from voxflow.components.networks.base import Network
from voxflow.components.registry import register

if TYPE_CHECKING:
    import torch


class RadiographNetwork(Network):
    """A 2D classifier.

    Attributes:
        weight_decay: L2 penalty, handed to the optimizer.
        data_format: accepted; the memory layout is chosen by what is fastest.
        pretrain_weight_name: a torch file of the same network with torchvision's names; TensorFlow's file of
            ImageNet weights, which Clara's environments name, is declined with a line.
        dropout: share of features dropped in each layer.
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

    def load_pretrained(self, network: torch.nn.Module) -> str:
        """Fill everything but the last layer, where its size differs.

        Raises:
            DataError: the file can't be read, or nothing in it fits.
        """
        from voxflow.components.networks.modules.weights import convert_radiograph_tensor, load_fitting

        return load_fitting(network, self.pretrain_weight_name, convert_radiograph_tensor)


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


@register("network", dialect="tlt2")
class Densenet121(DenseNet121):
    """TLT's name for DenseNet121; ``weight_decay`` and ``data_format`` stand among its globals."""


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


@register("network")
class ResNet(RadiographNetwork):
    """MONAI's ResNet of any size; its names are torchvision's, so that files of ResNet-18, -34 and -50 fit.

    Attributes:
        layers: blocks of each of the four levels.
        filters: of each level; a bottleneck answers with four times as many.
        block: "basic" has two convolutions (ResNet-18 and -34), "bottleneck" three (ResNet-50).
        dropout: 0: it has none.
        members: networks of this form that are trained side by side, each judged by itself, and answer with the mean of
            their logits.
    """

    dropout: float = Field(default=0.0, ge=0, le=0)

    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    filters: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256, 512)
    block: Literal["basic", "bottleneck"] = "basic"
    members: PositiveInt = 1

    def build(self) -> torch.nn.Module:
        """Build MONAI's ResNet, with the first stride of 2 and the shortcuts without bias that torchvision's have."""
        if self.members == 1:
            return self._build_member()
        from voxflow.components.networks.modules.members import Members

        return Members([self._build_member() for _ in range(self.members)])

    def _build_member(self) -> torch.nn.Module:
        from monai.networks.nets import ResNet as MonaiResNet

        network = MonaiResNet(
            self.block,
            list(self.layers),
            list(self.filters),
            spatial_dims=2,
            n_input_channels=self.in_channels or 1,
            conv1_t_stride=2,
            num_classes=self.num_classes or 1,
            bias_downsample=False,
        )
        return cast("torch.nn.Module", network)
