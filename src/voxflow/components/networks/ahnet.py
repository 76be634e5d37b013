"""SegAhnet, a network of volumes whose encoder begins from a 2D network's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from voxflow.components.networks.base import Network
from voxflow.components.registry import register
from voxflow.findings import ArgumentError

if TYPE_CHECKING:
    import torch

AHNET_AXES = {"x": 0, "y": 1, "z": 2}


@register("network")
class SegAhnet(Network):
    """MONAI's AHNet: a 2D ResNet-50 encoder turned 3D, anisotropic decoder, optional pyramid pooling.

    Attributes:
        if_use_psp: pool over four scales before the answer.
        pretrain_weight_name: a torch file of a 2D ResNet-50 (torchvision's names) that the encoder begins from;
            TensorFlow's file of ImageNet weights, which Clara's environments name, is declined with a line.
        plane: the axis that slices are stacked along: "x", "y" or "z" for i, j or k.
        n_spatial_dim: 3 for volumes, 2 for slices.
    """

    TOTAL_STRIDE: ClassVar[int] = 32
    # The coarsest of four poolings covers 64 pixels at half resolution.
    LEAST_FOR_POOLING: ClassVar[int] = 128

    if_use_psp: bool = False
    pretrain_weight_name: str = ""
    plane: Literal["x", "y", "z"] = "z"
    n_spatial_dim: Literal[2, 3] = 3

    @model_validator(mode="after")
    def _check_plane(self) -> Self:
        if self.n_spatial_dim == 2 and self.plane != "z":
            raise ArgumentError(
                f"plane {self.plane!r} means an axis of a volume", fix="leave it out with n_spatial_dim 2"
            )
        return self

    @property
    def divisor(self) -> int:
        """The total stride of the encoder."""
        return self.TOTAL_STRIDE

    @property
    def least_size(self) -> tuple[int, ...]:
        """The smallest input, voxels; with pooling its coarsest scale must fit into a slice.

        The axis that slices are stacked along needs the total stride alone.
        """
        in_plane = self.LEAST_FOR_POOLING if self.if_use_psp else self.TOTAL_STRIDE
        stacked = AHNET_AXES[self.plane] if self.n_spatial_dim == 3 else None
        return tuple(self.TOTAL_STRIDE if axis == stacked else in_plane for axis in range(self.n_spatial_dim))

    @property
    def spatial_dims(self) -> int:
        """3 for volumes, 2 for slices."""
        return self.n_spatial_dim

    def build(self) -> torch.nn.Module:
        """Build MONAI's AHNet."""
        from monai.networks.nets import AHNet

        from voxflow.components.networks.modules.wrappers import AcrossAxis

        network = AHNet(
            spatial_dims=self.n_spatial_dim,
            in_channels=self.in_channels or 1,
            out_channels=self.num_classes or 1,
            psp_block_num=4 if self.if_use_psp else 0,
            upsample_mode="trilinear" if self.n_spatial_dim == 3 else "bilinear",
        )
        return network if self.plane == "z" else AcrossAxis(network, AHNET_AXES[self.plane])

    def load_pretrained(self, network: torch.nn.Module) -> str:
        """Fill the encoder from the 2D network's file.

        Raises:
            DataError: the file can't be read, or nothing in it fits.
        """
        from voxflow.components.networks.modules.weights import convert_resnet_tensor, load_fitting
        from voxflow.components.networks.modules.wrappers import AcrossAxis

        inner = network.network if isinstance(network, AcrossAxis) else network
        return load_fitting(inner, self.pretrain_weight_name, convert_resnet_tensor)
