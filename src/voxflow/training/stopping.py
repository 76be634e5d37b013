"""Decides on early stopping: how many validations may pass without a better score."""

from __future__ import annotations

import math
from dataclasses import dataclass


# state.pt keeps the fields by name; see TrainingResult.
@dataclass
class Patience:
    """Counts validations since the last better value.

    Attributes:
        limit: validations without a better value that end the training; None: it never ends this way.
        best: the highest value so far; NaN before the first.
        waited: validations since.
    """

    limit: int | None
    best: float = math.nan
    waited: int = 0

    @property
    def is_over(self) -> bool:
        """Whether training should end."""
        return self.limit is not None and self.waited >= self.limit

    def note(self, value: float) -> None:
        """Note the metric of one validation.

        Args:
            value: greater is better; NaN counts as no better.

        Example:
            >>> patience = Patience(limit=2)
            >>> for dice in (0.5, 0.6, 0.6, 0.4):
            ...     patience.note(dice)
            >>> patience.best, patience.waited, patience.is_over
            (0.6, 2, True)
        """
        if value > self.best or (math.isnan(self.best) and not math.isnan(value)):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
