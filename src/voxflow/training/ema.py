"""Keeps the running average of a network's weights, which often scores better than the weights themselves."""

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
        """Take in the weights of one more step; buffers (running statistics) are copied as they are.

        The average becomes ``d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``, as in
        TensorFlow's ExponentialMovingAverage.

        Args:
            network: of the same form as the one that the average was made of.
            step: steps that the optimizer has taken, counted from 1.

        Example:
            >>> import torch
            >>> network = torch.nn.Linear(1, 1, bias=False)
            >>> _ = network.weight.data.fill_(0.0)
            >>> average = WeightAverage(network, decay=0.999)
            >>> _ = network.weight.data.fill_(1.0)
            >>> average.update(network, step=1)  # d is 2 / 11
            >>> round(average.network.weight.item(), 4)
            0.8182
        """
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            averages, weights = ([p.detach() for p in module.parameters()] for module in (self.network, network))
            # All tensors in one call, as torch's own optimizers and AveragedModel do.
            torch._foreach_lerp_(averages, weights, 1 - decay)
            for average_buffer, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
                average_buffer.copy_(buffer)
