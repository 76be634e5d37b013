"""A user's own losses, optimizers, learning-rate policies and inferers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from voxflow.components.custom.base import CustomComponent, adapts
from voxflow.components.learning.inferers import Inferer
from voxflow.components.learning.optimizers import LearningRatePolicy, Optimizer
from voxflow.components.losses.base import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    from voxflow.components.losses.base import LossFunction


@adapts("loss")
class CustomLoss(CustomComponent, Loss):
    """A callable (logits, label) → a tensor of one number."""

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Make the user's loss, and hold what it returns against what a loss must return.

        Args:
            activation: reaches the constructor where it names it.
            label_format: reaches the constructor where it names it.

        Returns:
            A function whose errors name the user's class.
        """
        import torch

        function = self.make(activation=activation, label_format=label_format)

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            value = self.guard(function, logits, label)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise self.wrong_answer(value, "a tensor of one number")
            return value.reshape(())

        return loss


@adapts("optimizer")
class CustomOptimizer(CustomComponent, Optimizer):
    """A ``torch.optim.Optimizer``."""

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """Make the user's optimizer.

        Args:
            parameters: reach the constructor first, as a list.
            lr: reaches the constructor where it names it.
            weight_decay: reaches the constructor where it names it.

        Raises:
            ConfigError: it is no ``torch.optim.Optimizer``.
        """
        import torch

        optimizer = self.make(list(parameters), **self.settings(lr, weight_decay))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise self.wrong_answer(optimizer, "a torch.optim.Optimizer")
        return optimizer


@adapts("lr_policy")
class CustomPolicy(CustomComponent, LearningRatePolicy):
    """A callable (step, total) → what the learning rate is multiplied by."""

    _object: Any = PrivateAttr(default=None)

    def factor(self, step: int, total: int) -> float:
        """Ask the user's policy."""
        if self._object is None:
            self._object = self.make()
        return float(self.guard(self._object, step, total))


@adapts("inferer")
class CustomInferer(CustomComponent, Inferer):
    """A callable (image, network) → logits, as MONAI's inferers are."""

    def infer(self, network: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Ask the user's inferer."""
        import torch

        logits = self.guard(self.make(), image, network)
        if not isinstance(logits, torch.Tensor):
            raise self.wrong_answer(logits, "a tensor of logits")
        return logits
