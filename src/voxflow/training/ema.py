"""Owns the running average of a network's weights, which often scores better than the weights themselves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class WeightAverage:
    """An exponential moving average of a network.

    Args:
        network: copied; the copy is never trained.
        decay: share that the average keeps each step; early on it keeps less, so that the random start is forgotten.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay
        for parameter in self.network.parameters():
            parameter.requires_grad = False

    def update(self, network: torch.nn.Module, step: int) -> None:
        """Take in the weights after ``step`` steps; buffers (running statistics) are taken as they are."""
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            averages, weights = ([p.detach() for p in module.parameters()] for module in (self.network, network))
            torch._foreach_lerp_(averages, weights, 1 - decay)
            for average_buffer, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
                average_buffer.copy_(buffer)
