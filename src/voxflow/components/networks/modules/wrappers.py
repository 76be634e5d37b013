"""What is wrapped around MONAI's networks: the VAE's share of the loss, slices along another axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch


class WithVae(nn.Module):
    """A SegResNetVAE that answers with logits alone; the branch's loss stands in ``extra_loss`` after a training step.

    Args:
        network: answers with (logits, loss or None).
        weight: of the branch's loss beside the segmentation's.
    """

    extra_loss: torch.Tensor | None = None

    def __init__(self, network: nn.Module, weight: float) -> None:
        super().__init__()
        self.network = network
        self.weight = weight

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, i, j, k).

        In training mode the branch's weighted loss stands in ``extra_loss`` afterwards; in evaluation None.
        """
        logits: torch.Tensor
        logits, loss = self.network(image)
        self.extra_loss = None if loss is None else self.weight * loss
        return logits


class AcrossAxis(nn.Module):
    """A network of slices stacked along the last axis, for images whose slices are stacked along another.

    Args:
        network: keeps the size of its image.
        axis: the spatial axis, from 0, that the slices are stacked along.
    """

    def __init__(self, network: nn.Module, axis: int) -> None:
        super().__init__()
        self.network = network
        self.axis = axis + 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, class, i, j, k)."""
        answer: torch.Tensor = self.network(image.transpose(self.axis, -1)).transpose(self.axis, -1)
        return answer
