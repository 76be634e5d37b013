"""What a loss is: a function of a network's logits and of what the datalist says is right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from voxflow.components.registry import ComponentModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

# (logits, label) → a tensor of one number.
LossFunction = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


class Loss(ComponentModel, ABC):
    """A loss: (logits, label) → a number."""

    @abstractmethod
    def build(self, activation: str, label_format: Sequence[int] = ()) -> LossFunction:
        """Build the function that training minimises.

        Args:
            activation: what turns the network's logits into probabilities: "softmax" or "sigmoid".
            label_format: classification: the datalist's; () where every column is a finding.

        Returns:
            A function of logits and label, both with the batch first; its value is a tensor of one number.
        """

    def sums_over_voxels(self) -> bool:
        """Whether it is made of sums over voxels, whatever their places, so that single voxels can be cut out."""
        return False
