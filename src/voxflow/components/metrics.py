"""Owns the validation metrics: each collects over the cases and answers with named numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import NonNegativeInt  # noqa: TC002 (pydantic reads annotations at run time)

from voxflow.components.registry import ComponentModel, register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# What validation knows of one batch: "model" (logits), "label", and what auxiliary operations added.
Outputs = dict[str, Any]


class Metric(ComponentModel, ABC):
    """A metric of the validation.

    Attributes:
        name: what its number is called.
        field: the output that is judged.
        is_key_metric: the best model is the one with the highest value of this.
    """

    name: str
    field: str = "model"
    is_key_metric: bool = False

    @abstractmethod
    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """What to keep of one batch."""

    @abstractmethod
    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The numbers over all batches; NaN where none is defined."""


@register("metric")
class ComputeAverageDice(Metric):
    """Dice of each class and case, averaged over the cases, then over the classes.

    Logits of several channels are judged by their largest, background left out; one channel is thresholded at 0.
    A class that is neither in the label nor predicted says nothing and is left out; one that is only predicted
    counts 0.

    Attributes:
        label_field: the mask of class indices.
        report_path: accepted; the evaluate stage writes reports.
    """

    label_field: str = "label"
    report_path: str = ""

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Dice (batch, class), NaN where undefined."""
        logits, label = np.asarray(outputs[self.field]), np.asarray(outputs[self.label_field])
        several = logits.shape[1] > 1
        predicted = logits.argmax(1) if several else (logits[:, 0] > 0).astype(int)
        classes = range(1, logits.shape[1]) if several else [1]
        return np.array([[dice(p == c, t == c) for c in classes] for p, t in zip(predicted, label[:, 0], strict=True)])

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``; with several classes each class's under ``name_CLASS``."""
        by_class = [mean_of(column) for column in np.concatenate(kept).T]
        values = {self.name: mean_of(np.array(by_class))}
        if len(by_class) > 1:
            values |= {f"{self.name}_{n}": value for n, value in zip(class_names[1:], by_class, strict=True)}
        return values


@register("metric")
class ComputeAUC(Metric):
    """Area under the ROC curve of one finding, or averaged over all.

    A finding that is the same in every case has no AUC: its own number is NaN and the average leaves it out.

    Attributes:
        label_field: the findings, 0 or 1; negative: unknown.
        class_index: the finding; left out: the average over all.
        auc_average: "macro": the mean of the findings' AUC; "micro": one AUC over all pairs at once;
            "weighted": the mean weighted by how often each finding is present.
    """

    label_field: str = "label"
    class_index: NonNegativeInt | None = None
    auc_average: Literal["macro", "micro", "weighted"] = "macro"

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Scores and labels (2, batch, finding)."""
        return np.stack([np.asarray(outputs[self.field], float), np.asarray(outputs[self.label_field], float)])

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The AUC under ``name``."""
        del class_names
        scores, labels = np.concatenate(kept, axis=1)
        if self.class_index is not None:
            return {self.name: auc(scores[:, self.class_index], labels[:, self.class_index])}
        if self.auc_average == "micro":
            return {self.name: auc(scores.ravel(), labels.ravel())}
        each = np.array([auc(score, label) for score, label in zip(scores.T, labels.T, strict=True)])
        weights = (labels == 1).sum(0) if self.auc_average == "weighted" else np.ones(len(each))
        defined = ~np.isnan(each)
        return {self.name: float(np.average(each[defined], weights=weights[defined])) if defined.any() else np.nan}


@register("metric")
class ComputeAverage(Metric):
    """The mean of an output that an auxiliary operation made."""

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """The values of one batch, flat."""
        return np.asarray(outputs[self.field], float).ravel()

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``."""
        del class_names
        return {self.name: mean_of(np.concatenate(kept))}


class AuxiliaryOperation(ComponentModel, ABC):
    """Something computed from the network's answer, for metrics to read."""

    @abstractmethod
    def compute(self, outputs: Outputs) -> Outputs:
        """The outputs to add."""


@register("aux_op")
class ComputeAccuracy(AuxiliaryOperation):
    """Share of findings that are right in each case, as the output ``tag``.

    Attributes:
        use_sigmoid: findings are judged one by one at probability 0.5; else the likeliest class is compared.
    """

    tag: str = "accuracy"
    use_sigmoid: bool = True

    def compute(self, outputs: Outputs) -> Outputs:
        """Accuracy (batch,); unknown findings are left out."""
        logits, label = np.asarray(outputs["model"]), np.asarray(outputs["label"])
        if not self.use_sigmoid:
            return {self.tag: (logits.argmax(1) == label.argmax(1)).astype(float)}
        right = np.where(label >= 0, (logits > 0) == (label > 0.5), np.nan)
        return {self.tag: np.array([mean_of(case) for case in right])}


@register("aux_op")
class ComputeBinaryPreds(AuxiliaryOperation):
    """Probabilities and labels of the findings under two names."""

    binary_preds_name: str = "binary_preds"
    binary_labels_name: str = "binary_labels"

    def compute(self, outputs: Outputs) -> Outputs:
        """Sigmoid of the logits, and the labels, both (batch, finding)."""
        logits = np.asarray(outputs["model"], float)
        return {self.binary_preds_name: 1 / (1 + np.exp(-logits)), self.binary_labels_name: outputs["label"]}


def dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks; NaN when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else np.nan


def auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Chance that a case with the finding scores above one without (ties count half); NaN when one kind is missing."""
    from scipy.stats import rankdata

    known = labels >= 0
    scores, present = scores[known], labels[known] > 0.5
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return np.nan
    ranks = rankdata(scores)[present].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def mean_of(values: NDArray[Any]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else np.nan
