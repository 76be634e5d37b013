"""Judges the answers of coarser levels (deep supervision), with less weight, and of networks that answer together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from voxflow.components.losses.base import LossFunction

    LevelsLoss = Callable[[torch.Tensor | list[torch.Tensor], torch.Tensor], torch.Tensor]


def judge_levels(compute_loss: LossFunction) -> LevelsLoss:
    """Return a loss that also takes a list of logits, finest first, as a network of deep supervision answers.

    Each level counts half as much as the one above it, and all together as much as one, as in nnU-Net. A level's label
    holds a voxel of the middle of each block of voxels, so that marks of unlabelled voxels stay what they are. Answers
    of one size are those of networks that answer together, and count alike.
    """

    def compute_all(logits: torch.Tensor | list[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        if not isinstance(logits, list):
            return compute_loss(logits, label)
        share = 1.0 if logits[0].shape == logits[-1].shape else 0.5
        weights = [share**level for level in range(len(logits))]
        losses = [compute_loss(answer, shrink_label(label, answer.shape[2:])) for answer in logits]
        total = sum((weight * loss for weight, loss in zip(weights, losses, strict=True)), start=0.0 * losses[0])
        return total / sum(weights)

    return compute_all


def shrink_label(label: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Return the label at a coarser level's voxels.

    Args:
        label: (batch, channel, ...spatial).
        size: of the level; each axis a divisor of the label's.

    Example:
        >>> import torch
        >>> shrink_label(torch.arange(8).view(1, 1, 8), (2,))
        tensor([[[2, 6]]])
    """
    steps = [whole // part for whole, part in zip(label.shape[2:], size, strict=True)]
    return label[(slice(None), slice(None), *(slice(step // 2, None, step) for step in steps))]
