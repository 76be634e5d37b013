"""Owns the losses; each takes logits and what the datalist says is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat

from voxflow.components.registry import ComponentModel, register

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Loss(ComponentModel, ABC):
    """A loss: (logits, label) → a number."""

    @abstractmethod
    def build(self, activation: str) -> LossFunction:
        """Build it for a network whose logits become probabilities by "softmax" or "sigmoid"."""


class OverlapLoss(Loss):
    """What losses on masks share: logits (batch, class, i, j, k), label (batch, 1, i, j, k) of class indices.

    Attributes:
        is_onehot_targets: the label has one channel a class instead of one of indices.
        skip_background: class 0 takes no part in the Dice term.
        squared_pred: squares in the Dice term's denominator.
        smooth: added to the Dice term's numerator and denominator.
    """

    is_onehot_targets: bool = False
    skip_background: bool = False
    squared_pred: bool = False
    smooth: NonNegativeFloat = 1e-5

    def shared(self, activation: str) -> dict[str, Any]:
        """The arguments that MONAI's overlap losses have in common."""
        return {
            "include_background": not self.skip_background,
            "to_onehot_y": not self.is_onehot_targets,
            "softmax": activation == "softmax",
            "sigmoid": activation == "sigmoid",
            "squared_pred": self.squared_pred,
            "smooth_nr": self.smooth,
            "smooth_dr": self.smooth,
        }


@register("loss")
class Dice(OverlapLoss):
    """1 minus the soft Dice, averaged over classes and batch."""

    def build(self, activation: str) -> LossFunction:
        """Build MONAI's DiceLoss."""
        from monai.losses import DiceLoss

        loss: LossFunction = DiceLoss(**self.shared(activation))
        return loss


@register("loss")
class DiceCE(OverlapLoss):
    """Dice plus cross entropy, weighted; the mask is learnt from both its shape and each of its voxels.

    Attributes:
        lambda_dice: weight of the Dice term.
        lambda_ce: weight of the cross entropy.
        batch: one Dice over the whole batch instead of one an image; steadier for small targets.
    """

    lambda_dice: NonNegativeFloat = 1.0
    lambda_ce: NonNegativeFloat = 1.0
    batch: bool = False

    def build(self, activation: str) -> LossFunction:
        """Build MONAI's DiceCELoss."""
        from monai.losses import DiceCELoss

        loss: LossFunction = DiceCELoss(
            **self.shared(activation),
            batch=self.batch,
            lambda_dice=self.lambda_dice,
            lambda_ce=self.lambda_ce,
        )
        return loss


@register("loss")
class BinaryClassificationLoss(Loss):
    """Binary cross entropy of each finding on its own; findings with a negative label are unknown, left out.

    Attributes:
        label_smoothing: share by which 0 and 1 are drawn towards 0.5.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, activation: str) -> LossFunction:
        """Build the loss of logits and labels, both (batch, finding)."""
        del activation
        from torch.nn.functional import binary_cross_entropy_with_logits

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            known = (label >= 0).float()
            target = label.float().clamp(0, 1) * (1 - self.label_smoothing) + self.label_smoothing / 2
            each = binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
            return (each * known).sum() / known.sum().clamp(min=1)

        return loss
