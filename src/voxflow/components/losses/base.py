"""Owns the losses; each takes logits and what the datalist says is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat

from voxflow.components.columns import logit_slices
from voxflow.components.registry import ComponentModel, register
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

# (logits, label) → a tensor of one number.
LossFunction = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


class Loss(ComponentModel, ABC):
    """A loss: (logits, label) → a number."""

    @abstractmethod
    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build it.

        Args:
            activation: what turns the network's logits into probabilities: "softmax" or "sigmoid".
            label_format: classification: the datalist's; () where every column is a finding.
        """


class OverlapLoss(Loss):
    """What losses on masks share: logits (batch, class, i, j, k), label (batch, 1, i, j, k) of class indices.

    Attributes:
        is_onehot_targets: the label has one channel a class instead of one of indices; the channels may overlap.
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

    def on_numbers(self, loss: LossFunction) -> LossFunction:
        """Masks are integers; MONAI's losses multiply one-hot masks as they are."""
        return (lambda logits, label: loss(logits, label.to(logits.dtype))) if self.is_onehot_targets else loss


@register("loss")
class Dice(OverlapLoss):
    """1 minus the soft Dice, averaged over classes and batch."""

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build MONAI's DiceLoss."""
        del label_format
        from monai.losses import DiceLoss

        return self.on_numbers(DiceLoss(**self.shared(activation)))


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

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build MONAI's DiceCELoss."""
        del label_format
        from monai.losses import DiceCELoss

        return self.on_numbers(
            DiceCELoss(
                **self.shared(activation),
                batch=self.batch,
                lambda_dice=self.lambda_dice,
                lambda_ce=self.lambda_ce,
            )
        )


@register("loss")
class Focal(OverlapLoss):
    """Cross entropy that weighs a voxel by how wrong it still is, averaged over voxels and classes.

    Attributes:
        gamma: how fast the weight of a voxel falls as it is learnt; 0: plain cross entropy.
    """

    gamma: NonNegativeFloat = 2.0

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build it; MONAI's own leaves the background out of the softmax, too, so that it is not this loss."""
        del label_format
        first = int(self.skip_background)

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            from monai.networks import one_hot
            from torch.nn import functional

            logits = logits.float()
            is_plain = self.is_onehot_targets or logits.shape[1] == 1
            truth = label.float() if is_plain else one_hot(label, logits.shape[1])
            if activation == "softmax":
                entropy = -functional.log_softmax(logits, 1) * truth
                wrong = 1 - logits.softmax(1)
            else:
                entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
                wrong = (truth - logits.sigmoid()).abs()
            each = wrong.pow(self.gamma) * entropy
            return each[:, first:].mean()

        return loss


class ClassificationLoss(Loss):
    """Cross entropy of each column of the labels on its own; columns with a negative label are unknown, left out.

    A finding (format 1) has one logit and binary cross entropy; a column of several classes the softmax of its own
    logits. Every known label of a batch counts the same.

    Attributes:
        label_smoothing: share by which certainty is drawn towards even chances.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build the loss of logits (batch, logit) and labels (batch, column)."""
        del activation

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            import torch

            columns = logit_slices(label_format or (1,) * label.shape[1])
            each = [self._column(logits[:, span].float(), label[:, n]) for n, span in enumerate(columns)]
            known = label >= 0
            total: torch.Tensor = (torch.stack(each, 1) * known).sum() / known.sum().clamp(min=1)
            return total

        return loss

    def _column(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss of each case (batch,); what stands where the label is unknown doesn't matter."""
        from torch.nn import functional

        if logits.shape[1] == 1:
            target = label.float().clamp(0, 1) * (1 - self.label_smoothing) + self.label_smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")
        target = label.long().clamp(0, logits.shape[1] - 1)
        return functional.cross_entropy(logits, target, reduction="none", label_smoothing=self.label_smoothing)


@register("loss")
class BinaryClassificationLoss(ClassificationLoss):
    """Binary cross entropy of each finding on its own; findings with a negative label are unknown, left out."""

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build it; ``label_format`` must name findings only."""
        if any(classes > 1 for classes in label_format):
            raise ConfigError(
                f"BinaryClassificationLoss is for findings; label_format {list(label_format)} has columns of several "
                "classes: use MulticlassClassificationLoss"
            )
        return super().build(activation, label_format)


@register("loss")
class MulticlassClassificationLoss(ClassificationLoss):
    """Cross entropy of each column, whether it holds a finding or one of several classes."""


@register("loss", dialect="tlt2", name="dice_loss")
class TltDice(Dice):
    """TLT's name for Dice."""


@register("loss", dialect="tlt2", name="classification_loss")
class TltClassificationLoss(ClassificationLoss):
    """TLT's one loss of classifiers: findings, several classes, or both."""
