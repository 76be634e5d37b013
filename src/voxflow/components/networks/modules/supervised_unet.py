"""A PlainUnet that also answers at its coarser levels while it is trained.

Apart from it, so that the exported files of a network without deep supervision keep their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from voxflow.components.networks.modules.plain_unet import PlainUnet

if TYPE_CHECKING:
    from collections.abc import Sequence


class SupervisedUnet(PlainUnet):
    """The network, with a head for each of the first levels below the finest.

    Args:
        in_channels: of the image.
        classes: channels of the answer.
        filters: of each level.
        strides: (i, j, k) of the step into each level but the first.
        supervised: number of levels below the finest that answer in training.
        layers: kernels, down, up and norm, as PlainUnet takes them.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        filters: Sequence[int],
        strides: Sequence[Sequence[int]],
        *,
        supervised: int,
        **layers: Any,
    ) -> None:
        super().__init__(in_channels, classes, filters, strides, **layers)
        self.heads = nn.ModuleList(nn.Conv3d(filters[n], classes, 1) for n in range(1, supervised + 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits; in training mode a list of those of each level, finest first.

        Args:
            image: (batch, channel, i, j, k); each size a multiple of the total stride.
        """
        if not self.training:
            return super().forward(image)
        skips: list[torch.Tensor] = []
        features = image
        for level in self.down:
            features = level(features)
            skips.append(features)
        answers: list[torch.Tensor] = []
        for place, rise, level in zip(range(len(self.up) - 1, -1, -1), self.rise, self.up, strict=True):
            features = level(torch.cat((skips[place], rise(features)), 1))
            if 0 < place <= len(self.heads):
                answers.insert(0, self.heads[place - 1](features))
        # The loss knows lists; what runs the network elsewhere sees it in evaluation mode.
        return cast("torch.Tensor", [self.head(features), *answers])
