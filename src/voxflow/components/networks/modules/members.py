"""Several networks of one form that are trained side by side and answer together.

Few images decide little, so that networks that began from other random weights differ; their mean is better than each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Members(nn.Module):
    """Networks whose mean logits are the answer.

    Args:
        networks: two or more, which take and mean the same.
        judged_apart: in training mode, answer with the list of each network's logits, so that the loss judges each by
            itself.
    """

    def __init__(self, networks: Sequence[nn.Module], *, judged_apart: bool = True) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)
        self.judged_apart = judged_apart

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean of all logits; in training mode the list of them."""
        answers = [member(image) for member in self.members]
        if self.training and self.judged_apart:
            return cast("torch.Tensor", answers)
        return torch.stack(answers).mean(0)
