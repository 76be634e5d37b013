"""Losses of classifiers: cross entropy of findings and of columns of several classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from voxflow.components.label_format import logit_slices
from voxflow.components.losses.base import Loss
from voxflow.components.registry import register
from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from voxflow.components.losses.base import LossFunction


class ClassificationLoss(Loss):
    """Cross entropy of each column of the labels on its own; columns with a negative label are unknown, left out.

    A finding (format 1) has one logit and binary cross entropy; a column of several classes the softmax of its own
    logits. Every known label of a batch counts the same.

    Attributes:
        label_smoothing: share by which certainty is drawn towards even chances.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build the cross entropy of each column, averaged over the known labels of a batch.

        Args:
            activation: ignored; a column's format says whether it is judged by the sigmoid or the softmax.
            label_format: of the columns; () where every column is a finding.

        Returns:
            A function of logits (batch, logit) and labels (batch, column), negative where a label is unknown.
        """

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            import torch

            columns = logit_slices(label_format or (1,) * label.shape[1])
            losses = [self._column(logits[:, span].float(), label[:, n]) for n, span in enumerate(columns)]
            is_known = label >= 0
            # A batch in which nothing is known has a loss of 0, and no gradient.
            total: torch.Tensor = (torch.stack(losses, 1) * is_known).sum() / is_known.sum().clamp(min=1)
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
    """Binary cross entropy of each finding on its own; findings with a negative label are unknown, left out.

    Attributes:
        positive_weights: how much an image that has the finding counts, by finding; empty: as much as one that has it
            not. The probabilities of a finding that counts more are too high by as much.
    """

    positive_weights: tuple[PositiveFloat, ...] = ()

    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build the binary cross entropy of findings.

        Args:
            activation: ignored; findings are judged by the sigmoid.
            label_format: must name findings only; () does.

        Raises:
            ConfigError: a column has several classes.
        """
        if any(classes > 1 for classes in label_format):
            raise ConfigError(
                f"BinaryClassificationLoss is for findings; label_format {list(label_format)} has columns of several "
                "classes: use MulticlassClassificationLoss"
            )
        if not self.positive_weights:
            return super().build(activation, label_format)
        if label_format and len(label_format) != len(self.positive_weights):
            raise ConfigError(f"positive_weights: {len(self.positive_weights)}, for {len(label_format)} findings")

        def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            import torch

            losses = torch.stack(
                [self._column(logits[:, n : n + 1].float(), label[:, n]) for n in range(label.shape[1])], 1
            )
            weights = torch.where(label > 0, losses.new_tensor(self.positive_weights), 1.0) * (label >= 0)
            return (losses * weights).sum() / weights.sum().clamp(min=1e-6)

        return loss


@register("loss")
class MulticlassClassificationLoss(ClassificationLoss):
    """Cross entropy of each column, whether it holds a finding or one of several classes."""
