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
        """Return what to keep of one batch.

        Args:
            outputs: the network's logits "model", "label" and what auxiliary operations added; the batch is the first
                axis.

        Returns:
            An array; processes that share the cases hand it to each other, so that it must hold all that
            :meth:`summarise` needs.
        """

    @abstractmethod
    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """Return the metric's numbers over all batches.

        Args:
            batches: what :meth:`measure` returned, in order.
            class_names: of the answer's channels, for the names of the numbers.

        Returns:
            Numbers by name: the metric's own, and perhaps NAME_CLASS; NaN where none is defined.
        """


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
        """Compute something of one batch for metrics to read.

        Args:
            outputs: the network's logits "model", "label" and what earlier operations added; the batch is the first
                axis.

        Returns:
            The outputs to add, by name.
        """


def summarise_metrics(
    metrics: Sequence[Metric], measured: Sequence[Sequence[NDArray[Any]]], class_names: Sequence[str]
) -> list[dict[str, float]]:
    """Return the numbers of each of several metrics, none of which takes another's place.

    Args:
        metrics: in order.
        measured: what each kept of all batches; of none it has the number NaN.
        class_names: of the answer's channels.

    Returns:
        Numbers by name for each metric. Where a class makes a metric's number be called as another metric, such as
        ``dice_left`` of the metric ``dice``, it is called ``dice_left (dice)``.
    """
    taken = {metric.name for metric in metrics}
    numbers: list[dict[str, float]] = []
    for metric, values in zip(metrics, measured, strict=True):
        values_by_name = metric.summarise(values, class_names) if len(values) else {metric.name: np.nan}
        free = {name: name == metric.name or name not in taken for name in values_by_name}
        numbers.append({n if free[n] else f"{n} ({metric.name})": value for n, value in values_by_name.items()})
        taken |= numbers[-1].keys()
    return numbers


def mean_defined(values: NDArray[Any]) -> float:
    """Return the mean of the values that are not NaN; NaN when nothing is left.

    Example:
        >>> mean_defined(np.array([0.5, np.nan, 1.0]))
        0.75
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan
