"""Keeps the running average of a network's weights, which often scores better than the weights themselves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    import torch

POWER = 3  # of the number of a step, as Shamir and Zhang recommend


class WeightAverage:
    """A moving average of a network, exponential or polynomial.

    Args:
        network: copied; the copy is never trained.
        decay: share that the average keeps each step; early on it keeps less, so that the random start is forgotten.
            "polynomial": the weights of a step count by its number to the power of 3, so that the last third of a
            training has four fifths of the average, however long it is.
    """

    def __init__(self, network: torch.nn.Module, decay: float | Literal["polynomial"]) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay
        for parameter in self.network.parameters():
            parameter.requires_grad = False

    def update(self, network: torch.nn.Module, step: int) -> None:
        """Take in the weights of one more step; buffers (running statistics) are copied as they are.

        The average becomes ``d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``, as in
        TensorFlow's ExponentialMovingAverage, or with ``d = 1 - 4 / (step + 3)``, the polynomial-decay averaging of
        Shamir and Zhang (2013).

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

        if self.decay == "polynomial":
            decay = 1 - (POWER + 1) / (step + POWER)
        else:
            decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            averages, weights = ([p.detach() for p in module.parameters()] for module in (self.network, network))
            # All tensors in one call, as torch's own optimizers and AveragedModel do.
            torch._foreach_lerp_(averages, weights, 1 - decay)
            for average_buffer, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
                average_buffer.copy_(buffer)
