"""The U-Net that Clara's configurations describe: one convolution a step down, ``nf_dec`` up again."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from monai.networks.blocks import Convolution
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAK = 0.2


class SkipUnet(nn.Module):
    """Strided convolutions down; up again by repetition, joined with what was there on the way down.

    The layout is VoxelMorph's, whose filter lists Clara's ``nf_enc`` and ``nf_dec`` are: with L levels, ``nf_dec``
    has one convolution at each level below the image's (coarsest first), one more at half resolution, and the rest
    at the image's own.
    """

    def __init__(
        self, in_channels: int, classes: int, encoder: Sequence[int], decoder: Sequence[int], *, norm: str | None = None
    ) -> None:
        super().__init__()
        levels = len(encoder)
        down = [in_channels, *encoder]
        # What each convolution of the decoder reads: the one before it, and where sizes have just doubled the encoder.
        skips = [0, *reversed(encoder[:-1]), 0, in_channels]
        before = [encoder[-1], *decoder[:-1]]
        joined = [n + (skips[index] if index < len(skips) else 0) for index, n in enumerate(before)]
        self.levels = levels
        self.encoder = nn.ModuleList(_layer(a, b, 2, norm) for a, b in pairwise(down))
        self.decoder = nn.ModuleList(_layer(a, b, 1, norm) for a, b in zip(joined, decoder, strict=True))
        self.head = nn.Conv3d(decoder[-1], classes, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            image: (batch, channel, i, j, k); each size a multiple of 2 to the number of levels.

        Returns:
            (batch, class, i, j, k) of the image's size.
        """
        features = [image]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        deep = features.pop()
        for index, layer in enumerate(self.decoder):
            deep = layer(deep)
            if index < self.levels - 1 or index == self.levels:
                deep = torch.cat([self.up(deep), features.pop()], dim=1)
        answer: torch.Tensor = self.head(deep)
        return answer


def _layer(inside: int, outside: int, stride: int, norm: str | None) -> Any:
    act = ("leakyrelu", {"negative_slope": LEAK})
    if norm is None:
        return Convolution(3, inside, outside, strides=stride, kernel_size=3, adn_ordering="A", act=act)
    return Convolution(3, inside, outside, strides=stride, kernel_size=3, adn_ordering="NA", act=act, norm=norm)
