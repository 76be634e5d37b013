"""The U-Net of plain convolutions: strides and kernels by level and axis, few layers where voxels are many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    Step = tuple[int, int, int]

LEAK = 0.01


class Convolution(nn.Conv3d):
    """A Conv3d that computes a single slice in two dimensions: on a CPU three times as fast in training (see below).

    Its weights are a Conv3d's, and a program that is made of it is one of a Conv3d.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (batch, channel, i, j, k).

        Args:
            features: (batch, channel, i, j, k).
        """
        if not is_scripting():  # noqa: SIM102 - TorchScript leaves out a branch of this condition alone
            if self.kernel_size[-1] == 1 and self.stride[-1] == 1 and _is_slice(features):
                flat, weight = features.squeeze(-1), self.weight.squeeze(-1)
                return functional.conv2d(flat, weight, self.bias, self.stride[:2], self.padding[:2]).unsqueeze(-1)
        volume: torch.Tensor = self._conv_forward(features, self.weight, self.bias)
        return volume


class TransposedConvolution(nn.ConvTranspose3d):
    """The same of a ConvTranspose3d whose kernel is as large as its stride."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return (batch, channel, i, j, k).

        Args:
            features: (batch, channel, i, j, k).
        """
        if not is_scripting():  # noqa: SIM102 - TorchScript leaves out a branch of this condition alone
            if self.kernel_size[-1] == 1 and _is_slice(features):
                flat, weight = features.squeeze(-1), self.weight.squeeze(-1)
                return functional.conv_transpose2d(flat, weight, self.bias, self.stride[:2]).unsqueeze(-1)
        return functional.conv_transpose3d(features, self.weight, self.bias, self.stride)


def _is_slice(features: torch.Tensor) -> bool:
    # Along a last axis of one voxel oneDNN can't compute several voxels at once: 1.35 against 4.5 million voxels a
    # second for two convolutions of 16 filters on one core. A traced program must take other sizes, too.
    if is_tracing():  # type: ignore[no-untyped-call]
        return False
    return features.shape[-1] == 1


class PlainUnet(nn.Module):
    """Levels of convolutions, finest first; the first convolution of a level strides down to it.

    Args:
        in_channels: of the image.
        classes: channels of the answer.
        filters: of each level.
        strides: (i, j, k) of the step into each level but the first.
        kernels: (i, j, k) of each level's convolutions.
        down: convolutions of each level on the way down.
        up: convolutions of each level but the deepest on the way up, finest first.
        norm: "batch" or "instance".
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        filters: Sequence[int],
        strides: Sequence[Sequence[int]],
        *,
        kernels: Sequence[Sequence[int]],
        down: Sequence[int],
        up: Sequence[int],
        norm: str,
    ) -> None:
        super().__init__()
        # A configuration hands lists.
        steps, sizes = [(1, 1, 1), *map(_step, strides)], [*map(_step, kernels)]
        before = [in_channels, *filters]
        self.down = nn.ModuleList(
            _level(before[n], filters[n], sizes[n], down[n], norm=norm, stride=steps[n]) for n in range(len(filters))
        )
        coarse = range(len(filters) - 2, -1, -1)
        self.rise = nn.ModuleList(
            TransposedConvolution(filters[n + 1], filters[n], steps[n + 1], steps[n + 1]) for n in coarse
        )
        self.up = nn.ModuleList(_level(2 * filters[n], filters[n], sizes[n], up[n], norm=norm) for n in coarse)
        self.head = Convolution(filters[0], classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=LEAK)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Args:
            image: (batch, channel, i, j, k); each size a multiple of the total stride.

        Returns:
            (batch, class, i, j, k) of the image's size.
        """
        skips: list[torch.Tensor] = []
        features = image
        for level in self.down:
            features = level(features)
            skips.append(features)
        for number, (rise, level) in enumerate(zip(self.rise, self.up, strict=True)):
            features = level(torch.cat((skips[len(skips) - 2 - number], rise(features)), 1))
        answer: torch.Tensor = self.head(features)
        return answer


def _step(values: Sequence[int]) -> Step:
    i, j, k = values
    return i, j, k


def _level(
    inside: int, outside: int, kernel: Step, count: int, *, norm: str, stride: Step = (1, 1, 1)
) -> nn.Sequential:
    """Convolution, norm and leaky ReLU, ``count`` times."""
    layers: list[nn.Module] = []
    padding = _step([n // 2 for n in kernel])
    for number in range(count):
        step = (1, 1, 1) if number else stride
        layers += [
            # Without bias: the norm that follows would take it off again.
            Convolution(outside if number else inside, outside, kernel, step, padding, bias=False),
            nn.InstanceNorm3d(outside, affine=True) if norm == "instance" else nn.BatchNorm3d(outside),
            nn.LeakyReLU(LEAK, inplace=True),
        ]
    return nn.Sequential(*layers)
