"""The U-Nets that nnU-Net builds, with the names that their weights have in its checkpoints.

After dynamic_network_architectures 0.4 (Apache-2.0, German Cancer Research Center): ``PlainConvUNet``,
``ResidualEncoderUNet`` and ``ResidualUNet``. Dropout is left out: it does nothing once a network is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLS: dict[int, type[nn.AvgPool2d | nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORMS: dict[tuple[str, int], type[nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}


class ConvolutionStyle:
    """What all convolutions of a network share.

    Args:
        dimensions: 2 or 3.
        bias: whether convolutions have one.
        norm: "instance" or "batch"; None: none.
        norm_args: of the norm's class.
        activation: "LeakyReLU" or another class of torch.nn; None: none.
        activation_args: of that class.
        is_norm_last: convolution, activation, norm, in the place of convolution, norm, activation.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        bias: bool,
        norm: str | None,
        norm_args: dict[str, Any],
        activation: str | None,
        activation_args: dict[str, Any],
        is_norm_last: bool = False,
    ) -> None:
        self.dimensions, self.bias, self.is_norm_last = dimensions, bias, is_norm_last
        self._norm, self._norm_args = norm, norm_args
        self._activation, self._activation_args = activation, activation_args

    def make_norm(self, features: int) -> nn.Module | None:
        """Make the norm of so many features; None where there is none."""
        return NORMS[self._norm, self.dimensions](features, **self._norm_args) if self._norm else None

    def make_activation(self) -> nn.Module | None:
        """Make the activation; None where there is none."""
        if self._activation is None:
            return None
        activation: nn.Module = getattr(nn, self._activation)(**self._activation_args)
        return activation


class ConvDropoutNormReLU(nn.Module):
    """A convolution, its norm and its activation."""

    def __init__(
        self,
        style: ConvolutionStyle,
        inside: int,
        outside: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        *,
        bias: bool | None = None,
        is_active: bool = True,
    ) -> None:
        super().__init__()
        padding = tuple((side - 1) // 2 for side in kernel)
        has_bias = style.bias if bias is None else bias
        convolution: Any = CONVOLUTIONS[style.dimensions]
        self.conv = convolution(inside, outside, tuple(kernel), tuple(stride), padding, bias=has_bias)
        self.norm = style.make_norm(outside)
        self.nonlin = style.make_activation() if is_active else None
        self._is_norm_last = style.is_norm_last

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Run the layers in their order."""
        features = self.conv(features)
        for layer in (self.nonlin, self.norm) if self._is_norm_last else (self.norm, self.nonlin):
            if layer is not None:
                features = layer(features)
        return features


@dataclass(frozen=True)
class StageShape:
    """The form of one stage's blocks.

    Attributes:
        inside: features that come in.
        outside: features that go out.
        kernel: of the convolutions.
        stride: of the first block.
        bottleneck: features between of residual blocks of three convolutions; None: they have two.
    """

    inside: int
    outside: int
    kernel: Sequence[int]
    stride: Sequence[int]
    bottleneck: int | None = None

    def list_blocks(self, count: int) -> list[StageShape]:
        """The form of each of several blocks: only the first one changes features and strides."""
        later = replace(self, inside=self.outside, stride=(1,) * len(self.stride))
        return [self, *[later] * (count - 1)]


class StackedConvBlocks(nn.Module):
    """Several convolutions; the first one strides."""

    def __init__(self, style: ConvolutionStyle, count: int, shape: StageShape) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                ConvDropoutNormReLU(style, block.inside, block.outside, block.kernel, block.stride)
                for block in shape.list_blocks(count)
            )
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Run them all."""
        answer: torch.Tensor = self.convs(features)
        return answer


class ResidualBlock(nn.Module):
    """The block of ResNet-D (He 2019): two convolutions, or three with a bottleneck, and a pooled way around them."""

    def __init__(self, style: ConvolutionStyle, shape: StageShape) -> None:
        super().__init__()
        ones = (1,) * style.dimensions
        inside, outside, bottleneck = shape.inside, shape.outside, shape.bottleneck
        if bottleneck is None:
            self.conv1 = ConvDropoutNormReLU(style, inside, outside, shape.kernel, shape.stride)
            self.conv2 = ConvDropoutNormReLU(style, outside, outside, shape.kernel, ones, is_active=False)
            self.nonlin2 = style.make_activation()
        else:
            self.conv1 = ConvDropoutNormReLU(style, inside, bottleneck, ones, ones)
            self.conv2 = ConvDropoutNormReLU(style, bottleneck, bottleneck, shape.kernel, shape.stride)
            self.conv3 = ConvDropoutNormReLU(style, bottleneck, outside, ones, ones, is_active=False)
            self.nonlin3 = style.make_activation()
        self._has_bottleneck = bottleneck is not None
        around: list[nn.Module] = []
        if any(step != 1 for step in shape.stride):
            pool: Any = POOLS[style.dimensions]
            around.append(pool(tuple(shape.stride), tuple(shape.stride)))
        if inside != outside:
            around.append(ConvDropoutNormReLU(style, inside, outside, ones, ones, bias=False, is_active=False))
        self.skip = nn.Sequential(*around)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Add what the convolutions say to what goes around them."""
        answer = self.conv2(self.conv1(features))
        if self._has_bottleneck:
            answer = self.conv3(answer)
        answer = answer + self.skip(features)
        activation = self.nonlin3 if self._has_bottleneck else self.nonlin2
        active: torch.Tensor = answer if activation is None else activation(answer)
        return active


class StackedResidualBlocks(nn.Module):
    """Several residual blocks; the first one strides."""

    def __init__(self, style: ConvolutionStyle, count: int, shape: StageShape) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(style, block) for block in shape.list_blocks(count)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Run them all."""
        answer: torch.Tensor = self.blocks(features)
        return answer


class DynamicUnet(nn.Module):
    """A U-Net of nnU-Net, in two or three dimensions.

    Args:
        style: of all convolutions.
        in_channels: of the image.
        classes: channels of the answer.
        filters: of each stage, finest first.
        kernels: of each stage.
        strides: into each stage; the first one is 1 in nnU-Net's plans.
        down: convolutions, or residual blocks, of each stage of the encoder.
        up: of each stage of the decoder, coarsest first.
        is_residual: whether the encoder has residual blocks.
        is_residual_up: whether the decoder has, too.
        bottlenecks: features between of each stage's residual blocks; None: the blocks have two convolutions.
        stem: features of the convolution in front of a residual encoder; None: those of the first stage.
    """

    def __init__(
        self,
        style: ConvolutionStyle,
        in_channels: int,
        classes: int,
        *,
        filters: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        down: Sequence[int],
        up: Sequence[int],
        is_residual: bool,
        is_residual_up: bool = False,
        bottlenecks: Sequence[int | None] = (),
        stem: int | None = None,
    ) -> None:
        super().__init__()
        self._dimensions = style.dimensions
        first = stem or filters[0] if is_residual else in_channels
        shapes = [
            StageShape(inside, outside, kernel, stride, bottleneck)
            for inside, outside, kernel, stride, bottleneck in zip(
                (first, *filters[:-1]), filters, kernels, strides, bottlenecks or [None] * len(filters), strict=True
            )
        ]
        self.encoder = nn.Module()
        if is_residual:
            stem_shape = StageShape(in_channels, first, kernels[0], (1,) * style.dimensions)
            self.encoder.stem = StackedConvBlocks(style, 1, stem_shape)
        stages = [
            StackedResidualBlocks(style, count, shape)
            if is_residual
            else nn.Sequential(StackedConvBlocks(style, count, shape))
            for count, shape in zip(down, shapes, strict=True)
        ]
        self.encoder.stages = nn.Sequential(*stages)
        self.decoder = _make_decoder(style, classes, shapes, up, is_residual=is_residual_up)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            image: (batch, channel, i, j, k); a network of two dimensions is shown each plane (j, k) by itself.

        Returns:
            (batch, class, i, j, k) of the image's size.
        """
        if self._dimensions == 3:
            return self._forward(image)
        batch, planes = image.shape[0], image.shape[2]
        answer = self._forward(image.transpose(1, 2).flatten(0, 1))
        return answer.reshape(batch, planes, *answer.shape[1:]).transpose(1, 2)

    def _forward(self, features: torch.Tensor) -> torch.Tensor:
        encoder: Any = self.encoder
        if hasattr(encoder, "stem"):
            features = encoder.stem(features)
        skips: list[torch.Tensor] = []
        for stage in encoder.stages:
            features = stage(features)
            skips.append(features)
        decoder: Any = self.decoder
        for number, (rise, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
            features = stage(torch.cat((rise(features), skips[len(skips) - 2 - number]), 1))
        answer: torch.Tensor = decoder.seg_layers[-1](features)
        return answer


def _make_decoder(
    style: ConvolutionStyle, classes: int, shapes: Sequence[StageShape], up: Sequence[int], *, is_residual: bool
) -> nn.Module:
    """The way up; ``shapes`` are those of the encoder's stages, finest first."""
    transposed: Any = TRANSPOSED[style.dimensions]
    convolution: Any = CONVOLUTIONS[style.dimensions]
    block = StackedResidualBlocks if is_residual else StackedConvBlocks
    ones = (1,) * style.dimensions
    fine, below = shapes[-2::-1], shapes[:0:-1]  # coarsest first
    decoder = nn.Module()
    decoder.stages = nn.ModuleList(
        block(style, count, StageShape(2 * shape.outside, shape.outside, shape.kernel, ones))
        for count, shape in zip(up, fine, strict=True)
    )
    decoder.transpconvs = nn.ModuleList(
        transposed(lower.outside, shape.outside, tuple(lower.stride), tuple(lower.stride), bias=style.bias)
        for lower, shape in zip(below, fine, strict=True)
    )
    # Those of the coarser stages answered while nnU-Net trained it; a training here does not wait for them.
    decoder.seg_layers = nn.ModuleList(convolution(shape.outside, classes, 1) for shape in fine)
    decoder.seg_layers[:-1].requires_grad_(requires_grad=False)
    return decoder


class AveragedNetworks(nn.Module):
    """The networks of several folds, whose logits are averaged, as nnU-Net does."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean of the networks' logits."""
        total: torch.Tensor = self.members[0](image)
        for member in list(self.members)[1:]:
            total = total + member(image)
        return total / len(self.members)


class CascadedNetworks(nn.Module):
    """The networks of a cascade; what lies between them is no work of a network.

    Args:
        previous: the first stage's; a ModuleList of several whose masks are made together.
        last: the second stage's.
    """

    def __init__(self, previous: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.previous, self.last = previous, last

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the second network's logits of an image that has the mask of the first one beside it."""
        answer: torch.Tensor = self.last(image)
        return answer


class JoinedNetworks(nn.Module):
    """The networks of a joined model, each with its weights; none of them answers for the others."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Refuse: each part is run by itself, on an image that is prepared for it."""
        raise RuntimeError(f"a joined model has {len(self.parts)} networks, which are run one by one")
