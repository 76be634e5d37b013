"""Owns the validation metrics: each collects over the cases and answers with named numbers."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from voxflow.components.columns import encode_one_vs_rest, read_label_format
from voxflow.components.registry import ComponentModel, register
from voxflow.components.transforms.base import is_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# What validation knows of one batch: "model" (logits), "label", "activation" (of the logits: "softmax" or
# "sigmoid"), "label_format" (of a classifier's labels), and what auxiliary operations added. In an evaluation any
# field of the sample, masks too.
Outputs = dict[str, Any]
_log = logging.getLogger(__name__)


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
    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The numbers over all batches; NaN where none is defined."""


@register("metric")
class ComputeAverageDice(Metric):
    """Dice of each class and case, averaged over the cases, then over the classes.

    The label holds class indices in one channel, or one channel a class. Logits of several channels are judged by
    their largest, or each by itself where the activation is a sigmoid and the label has as many channels; one channel
    is judged by itself. A field of integers is a mask already. A class that is neither in the label nor predicted says
    nothing and is left out; one that is only predicted counts 0.

    Attributes:
        label_field: the mask.
        remove_bg: leave class 0 out, where classes exclude each other.
        logit_thresh: the probability above which a channel that is judged by itself says yes.
        is_one_hot_targets: accepted; the label's channels say so.
        is_2d: accepted; shapes say so.
    """

    label_field: str = "label"
    remove_bg: bool = True
    logit_thresh: float = Field(default=0.5, gt=0, lt=1)
    is_one_hot_targets: bool = False
    is_2d: bool = False

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Dice (batch, class), NaN where undefined."""
        value, label = np.asarray(outputs[self.field]), np.asarray(outputs[self.label_field])
        independent = outputs.get("activation") == "sigmoid" and label.shape[1] == value.shape[1]
        if label.shape[1] > 1:
            predicted = self._channels(value, independent)
            first = int(self.remove_bg and not independent)
            return overlap(predicted[:, first:], label[:, first:] > 0)
        predicted, classes = self._indices(value, int(label.max(initial=0)))
        wanted = range(int(self.remove_bg and classes > 1), max(classes, 2))
        return overlap(*(np.concatenate([mask == c for c in wanted], 1) for mask in (predicted, label)))

    def _channels(self, value: NDArray[Any], independent: bool) -> NDArray[np.bool_]:
        """One mask a channel (batch, class, ...)."""
        if is_mask(value):
            return np.asarray(value > 0)
        if independent:
            return np.asarray(value > self._logit)
        return np.asarray(
            np.arange(value.shape[1]).reshape(1, -1, *(1,) * (value.ndim - 2)) == value.argmax(1)[:, None]
        )

    def _indices(self, value: NDArray[Any], largest: int) -> tuple[NDArray[Any], int]:
        """Class indices (batch, 1, ...), and how many classes there are, class 0 among them."""
        if is_mask(value):
            return value, max(largest, int(value.max(initial=0)), 1) + 1
        if value.shape[1] == 1:
            return (value > self._logit).astype(np.uint8), 2
        return value.argmax(1)[:, None], value.shape[1]

    @property
    def _logit(self) -> float:
        return math.log(self.logit_thresh / (1 - self.logit_thresh))

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``; with several classes each class's under ``name_CLASS``."""
        by_class = [mean_of(column) for column in widened(kept).T]
        values = {self.name: mean_of(np.array(by_class))}
        if len(by_class) > 1:
            first = int(len(class_names) == len(by_class) + 1)
            names = class_names[first:] if len(class_names) == len(by_class) + first else range(1, len(by_class) + 1)
            values |= {f"{self.name}_{n}": value for n, value in zip(names, by_class, strict=True)}
        return values

    def by_case(self, kept: Sequence[NDArray[Any]]) -> list[float]:
        """Each case's mean over its classes, for the report; NaN where none is defined."""
        return [mean_of(row) for row in widened(kept)]


@register("metric")
class ComputeAUC(Metric):
    """Area under the ROC curve of one finding, or averaged over all.

    A finding that is the same in every case has no AUC: its own number is NaN, the average leaves it out, and a
    line of the log names it.

    Attributes:
        label_field: the findings, 0 or 1; negative: unknown.
        class_index: the finding; left out: the average over all.
        auc_average: "macro": the mean of the findings' AUC; "micro": one AUC over all pairs at once;
            "weighted": the mean weighted by how often each finding is present.
        include_list: the findings that are averaged; left out: all.
    """

    label_field: str = "label"
    class_index: NonNegativeInt | None = None
    auc_average: Literal["macro", "micro", "weighted"] = "macro"
    include_list: tuple[NonNegativeInt, ...] | None = None

    def measure(self, outputs: Outputs) -> NDArray[Any]:
        """Scores and labels (2, batch, finding); columns of several classes count as one finding a class."""
        scores, labels = np.asarray(outputs[self.field], float), np.asarray(outputs[self.label_field], float)
        if scores.shape != labels.shape:
            labels = encode_one_vs_rest(labels, read_label_format(outputs, labels))
        return np.stack([scores, labels])

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The AUC under ``name``."""
        scores, labels, chosen = self._chosen(kept)
        if self.auc_average == "micro" and self.class_index is None:
            return {self.name: auc(scores.ravel(), labels.ravel())}
        each = np.array([auc(score, label) for score, label in zip(scores.T, labels.T, strict=True)])
        defined = ~np.isnan(each)
        self._report([n for n, is_defined in zip(chosen, defined, strict=True) if not is_defined], class_names)
        weights = (labels == 1).sum(0) if self.auc_average == "weighted" else np.ones(len(each))
        return {self.name: float(np.average(each[defined], weights=weights[defined])) if defined.any() else np.nan}

    def undefined(self, kept: Sequence[NDArray[Any]]) -> list[int]:
        """The findings, from 0, that have no AUC because they are the same in every case."""
        scores, labels, chosen = self._chosen(kept)
        each = [auc(score, label) for score, label in zip(scores.T, labels.T, strict=True)]
        return [n for n, value in zip(chosen, each, strict=True) if math.isnan(value)]

    def _chosen(self, kept: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], list[int]]:
        scores, labels = np.concatenate(kept, axis=1)
        if self.class_index is not None:
            chosen = [self.class_index]
        else:
            chosen = list(range(scores.shape[1]) if self.include_list is None else self.include_list)
        if max(chosen) >= scores.shape[1]:
            raise ValueError(f"{self.name}: there is no finding {max(chosen)}; {scores.shape[1]} are known, 0 first")
        return scores[:, chosen], labels[:, chosen], chosen

    def _report(self, undefined: list[int], class_names: Sequence[str]) -> None:
        if undefined:
            names = ", ".join(class_names[n] if n < len(class_names) else f"finding {n}" for n in undefined)
            _log.warning("%s: no AUC for %s, the same in every case; left out of the average", self.name, names)


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
        """The values of one batch, flat."""
        values = np.asarray(outputs[self.field], float).ravel()
        return values if self.invalid_value is None else np.where(values == self.invalid_value, np.nan, values)

    def summarise(self, kept: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """The mean under ``name``."""
        del class_names
        mean = mean_of(np.concatenate(kept))
        return {self.name: -mean if self.negate_value else mean}


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


def overlap(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice (batch, class) of masks (batch, class, ...); NaN where both are empty."""
    pairs = zip(predicted, truth, strict=True)
    return np.array([[dice(p, t) for p, t in zip(ps, ts, strict=True)] for ps, ts in pairs])


def widened(kept: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """All batches' rows (case, class); classes that a batch knew nothing of are NaN."""
    width = max(part.shape[1] for part in kept)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=np.nan) for p in kept])


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
