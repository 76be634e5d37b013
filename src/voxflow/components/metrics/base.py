"""What a metric and an auxiliary operation are: numbers over all cases, and what is computed of one batch before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from voxflow.components.registry import ComponentModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# What validation knows of one batch: "model" (logits), "label", "activation" (of the logits: "softmax" or
# "sigmoid"), "label_format" (of a classifier's labels), and what auxiliary operations added. In an evaluation any
# field of the sample, masks too.
Outputs = dict[str, Any]


class Metric(ComponentModel, ABC):
    """A metric of the validation.

    Attributes:
        name: what its number is called.
        field: the output that is judged.
        is_key_metric: the best model is the one with the highest value of this.
        report_path: the folder that the evaluation's report of it goes to.
        do_summary: accepted; every metric goes to the event files.
        do_print: accepted; every metric goes to the console.
    """

    name: str
    field: str = "model"
    is_key_metric: bool = False
    report_path: str = ""
    do_summary: bool = True
    do_print: bool = True

    @abstractmethod
    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """What to keep of one batch."""

    @abstractmethod
    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The numbers over all batches; NaN where none is defined."""


class AuxiliaryOperation(ComponentModel, ABC):
    """Something computed from the network's answer, for metrics to read.

    Attributes:
        needs_loss: validation must put the loss of each case in the outputs, as "loss" (batch,).
        do_summary: accepted; what metrics make of it goes to the event files.
        do_print: accepted; what metrics make of it goes to the console.
    """

    needs_loss: ClassVar[bool] = False

    do_summary: bool = True
    do_print: bool = True

    @abstractmethod
    def compute(self, outputs: Outputs) -> Outputs:
        """The outputs to add."""


def mean_defined(values: NDArray[Any]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan
