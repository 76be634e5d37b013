"""Optimizers and learning-rate policies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from voxflow.components.registry import ComponentModel, register

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


class Optimizer(ComponentModel, ABC):
    """An optimizer of a network's parameters.

    Attributes:
        lr: learning rate; the configuration's global ``learning_rate`` when left out.
        weight_decay: L2 penalty (AdamW: decoupled); the network's own when left out.
    """

    lr: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build torch's optimizer.

        Args:
            parameters: those of the network.
            lr: learning rate, where this component has none of its own.
            weight_decay: L2 penalty, where this component has none of its own.
        """

    def settings(self, lr: float, weight_decay: float) -> dict[str, float]:
        """Return the learning rate and weight decay to build with; the component's own values come first.

        Example:
            >>> Adam(lr=0.001).settings(lr=0.1, weight_decay=0.0)
            {'lr': 0.001, 'weight_decay': 0.0}
        """
        decay = weight_decay if self.weight_decay is None else self.weight_decay
        return {"lr": self.lr or lr, "weight_decay": decay}


@register("optimizer", dialect="tlt2")
@register("optimizer")
class Adam(Optimizer):
    """torch's Adam."""

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build torch's Adam, its steps fused into one kernel."""
        import torch

        return torch.optim.Adam(parameters, fused=True, **cast("dict[str, Any]", self.settings(lr, weight_decay)))


@register("optimizer")
class AdamW(Optimizer):
    """torch's AdamW."""

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build torch's AdamW, its steps fused into one kernel."""
        import torch

        return torch.optim.AdamW(parameters, fused=True, **cast("dict[str, Any]", self.settings(lr, weight_decay)))


@register("optimizer")
class NovoGrad(Optimizer):
    """MONAI's Novograd: gradients normalised layer by layer.

    Attributes:
        beta1: decay of the mean gradient.
        beta2: decay of the gradient's norm.
        grad_averaging: the mean is weighted by 1 - beta1.
    """

    beta1: float = Field(default=0.95, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    grad_averaging: bool = False

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Build MONAI's Novograd."""
        from monai.optimizers import Novograd

        settings = self.settings(lr, weight_decay)
        betas = (self.beta1, self.beta2)
        optimizer = Novograd(parameters, betas=betas, grad_averaging=self.grad_averaging, **settings)
        return cast("torch.optim.Optimizer", optimizer)


class LearningRatePolicy(ComponentModel, ABC):
    """A learning-rate policy: a factor for each step.

    Example:
        >>> halve = DecayOnStep(decay_ratio=0.5, decay_freq=10)
        >>> [halve.factor(step, total=30) for step in (0, 9, 10, 20)]
        [1.0, 1.0, 0.5, 0.25]
    """

    @abstractmethod
    def factor(self, step: int, total: int) -> float:
        """Return what the learning rate is multiplied by at a step.

        Args:
            step: from 0, counted in batches over the whole training.
            total: steps of the whole training.
        """


@register("lr_policy")
class DecayOnStep(LearningRatePolicy):
    """Multiply by ``decay_ratio`` after every ``decay_freq`` steps."""

    decay_ratio: PositiveFloat
    decay_freq: PositiveInt

    def factor(self, step: int, total: int) -> float:
        """Return a staircase."""
        return float(self.decay_ratio ** (step // self.decay_freq))


@register("lr_policy", dialect="tlt2", name="ReduceLR_Poly")
@register("lr_policy")
class ReducePoly(LearningRatePolicy):
    """Fall from 1 to 0 as (1 - step / total) to the power of ``poly_power``."""

    poly_power: PositiveFloat = 0.9

    def factor(self, step: int, total: int) -> float:
        """Return the polynomial."""
        return float(max(0.0, 1 - step / total) ** self.poly_power)


@register("lr_policy")
class ReduceCosine(LearningRatePolicy):
    """Fall from 1 to 0 along half a cosine that lasts ``rate`` of the training."""

    rate: PositiveFloat = 1.0

    def factor(self, step: int, total: int) -> float:
        """Return the cosine; 0 once it has ended."""
        return (1 + math.cos(math.pi * min(1.0, step / (total * self.rate)))) / 2


@register("lr_policy")
class OneCycle(LearningRatePolicy):
    """Rise from ``start`` to 1 during the first ``warmup``, then fall to ``end``, both along half a cosine.

    Attributes:
        warmup: share of the training that rises.
        start: first factor.
        end: last factor.
    """

    warmup: float = Field(default=0.3, gt=0, lt=1)
    start: PositiveFloat = 0.04
    end: NonNegativeFloat = 4e-6

    def factor(self, step: int, total: int) -> float:
        """Return where the cycle stands at a step.

        Args:
            step: from 0; the peak of 1 is reached at the last step of the warm-up.
            total: steps of the whole training.
        """
        # As torch's OneCycleLR counts: the last step of the warm-up is the peak.
        peak = max(self.warmup * total - 1, 1e-9)
        if step <= peak:
            return _between(self.start, 1.0, step / peak)
        return _between(1.0, self.end, min(1.0, (step - peak) / max(total - 1 - peak, 1e-9)))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
