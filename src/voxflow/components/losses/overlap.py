"""Losses of masks: Dice, Dice with cross entropy, focal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeFloat  # noqa: TC002 (pydantic reads annotations at run time)

from voxflow.components.losses.base import Loss
from voxflow.components.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from voxflow.components.losses.base import LossFunction


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

    def sums_over_voxels(self) -> bool:
        """Always."""
        return True

    def shared_arguments(self, activation: str) -> dict[str, Any]:
        """Return the arguments that MONAI's overlap losses have in common.

        Args:
            activation: "softmax" or "sigmoid"; MONAI's loss applies it to the logits.
        """
        return {
            "include_background": not self.skip_background,
            "to_onehot_y": not self.is_onehot_targets,
            "softmax": activation == "softmax",
            "sigmoid": activation == "sigmoid",
            "squared_pred": self.squared_pred,
            "smooth_nr": self.smooth,
            "smooth_dr": self.smooth,
        }

    def cast_label(self, loss: LossFunction) -> LossFunction:
        """Return a loss that turns one-hot masks into the logits' type before it judges them.

        Masks are integers; MONAI's losses multiply one-hot masks as they are.
        """
        return (lambda logits, label: loss(logits, label.to(logits.dtype))) if self.is_onehot_targets else loss


@register("loss")
class Dice(OverlapLoss):
    """1 minus the soft Dice, averaged over classes and batch.

    Example:
        >>> import torch
        >>> label = torch.tensor([[[[[0, 1]]]]])
        >>> certain = 50 * torch.tensor([[[[[1.0, -1.0]]], [[[-1.0, 1.0]]]]])  # logits of two classes, both right
        >>> round(float(Dice().build("softmax")(certain, label)), 4)
        0.0
    """

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build MONAI's DiceLoss.

        Args:
            activation: "softmax" or "sigmoid".
            label_format: ignored; masks have none.
        """
        from monai.losses import DiceLoss

        return self.cast_label(DiceLoss(**self.shared_arguments(activation)))


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
        """Build MONAI's DiceCELoss; of masks that may overlap, Dice and binary cross entropy of each channel.

        Args:
            activation: "softmax" or "sigmoid".
            label_format: ignored; masks have none.
        """
        from monai.losses import DiceCELoss

        if activation == "sigmoid" and self.is_onehot_targets:
            return self.cast_label(self._build_for_regions())
        shared, weights = self.shared_arguments(activation), (self.lambda_dice, self.lambda_ce)
        return self.cast_label(DiceCELoss(**shared, batch=self.batch, lambda_dice=weights[0], lambda_ce=weights[1]))

    def _build_for_regions(self) -> LossFunction:
        """Dice plus binary cross entropy: MONAI's DiceCELoss lets several channels exclude each other (softmax)."""
        from monai.losses import DiceLoss
        from torch.nn import functional

        dice = DiceLoss(**self.shared_arguments("sigmoid"), batch=self.batch)

        def compute_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            truth = label.to(logits.dtype)
            entropy = functional.binary_cross_entropy_with_logits(logits, truth)
            total: torch.Tensor = self.lambda_dice * dice(logits, label) + self.lambda_ce * entropy
            return total

        return compute_loss


@register("loss")
class Focal(OverlapLoss):
    """Cross entropy that weighs a voxel by how wrong it still is, averaged over voxels and classes.

    Attributes:
        gamma: how fast the weight of a voxel falls as it is learnt; 0: plain cross entropy.
    """

    gamma: NonNegativeFloat = 2.0

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build the focal loss of Lin et al. (2017).

        MONAI's own leaves the background out of the softmax, too, so that it is not this loss.

        Args:
            activation: "softmax": classes exclude each other; "sigmoid": each channel is judged by itself.
            label_format: ignored; masks have none.
        """
        first = int(self.skip_background)

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            from monai.networks import one_hot
            from torch.nn import functional

            # bfloat16 has 8 bits, too few for probabilities near 1, which this loss is about.
            logits = logits.float()
            is_plain = self.is_onehot_targets or logits.shape[1] == 1
            truth = label.float() if is_plain else one_hot(label, logits.shape[1])
            if activation == "softmax":
                entropy = -functional.log_softmax(logits, 1) * truth
                error = 1 - logits.softmax(1)
            else:
                entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
                # 1 minus the probability of the right answer, whether that is yes or no.
                error = (truth - logits.sigmoid()).abs()
            weighted = error.pow(self.gamma) * entropy
            return weighted[:, first:].mean()

        return loss
