"""The mean of what an auxiliary operation computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.components.metrics.base import Metric, Outputs, mean_defined
from voxflow.components.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@register("metric")
class ComputeAverage(Metric):
    """The mean of an output that an auxiliary operation made.

    Attributes:
        invalid_value: a value that says nothing and is left out; NaN always is.
        negate_value: give the mean with its sign turned, so that less is better.
    """

    invalid_value: float | None = None
    negate_value: bool = False

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Return the values of one batch, flat; ``invalid_value`` becomes NaN."""
        values = np.asarray(outputs[self.field], float).ravel()
        return values if self.invalid_value is None else np.where(values == self.invalid_value, np.nan, values)

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``."""
        mean = mean_defined(np.concatenate(batches))
        return {self.name: -mean if self.negate_value else mean}
