"""Dice of masks, as a metric and for others to use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from voxflow.components.metrics.base import Metric, Outputs, mean_defined
from voxflow.components.registry import register
from voxflow.components.transforms.base import is_mask
from voxflow.components.unlabelled import UNKNOWN, UNLABELLED_SETS, list_unlabelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray


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
        """Return the Dice of each case and class of one batch.

        Args:
            outputs: "model": logits (batch, class, i, j, k), or an integer mask; "label": (batch, 1, i, j, k) of class
                indices, or one channel a class.

        Returns:
            (batch, class), NaN where a class is neither in the label nor predicted.
        """
        value, label = np.asarray(outputs[self.field]), np.asarray(outputs[self.label_field])
        if label.dtype.kind == "i" and label.min(initial=0) < 0:
            return self._measure_labelled(value, label, outputs)
        independent = outputs.get("activation") == "sigmoid" and label.shape[1] == value.shape[1]
        if label.shape[1] > 1:
            predicted = self._channels(value, independent)
            first = int(self.remove_bg and not independent)
            return compute_dice_by_class(predicted[:, first:], label[:, first:] > 0)
        predicted, classes = self._indices(value, int(label.max(initial=0)))
        # A mask of one class is still a foreground, so that there are two values at least.
        values = range(int(self.remove_bg and classes > 1), max(classes, 2))
        return compute_dice_by_class(*(np.concatenate([mask == c for c in values], 1) for mask in (predicted, label)))

    def _measure_labelled(self, value: NDArray[Any], label: NDArray[Any], outputs: Outputs) -> NDArray[Any]:
        """The same of the labelled voxels alone, a case at a time; NaN for classes that were not labelled."""
        independent = outputs.get("activation") == "sigmoid" and label.shape[1] == value.shape[1] > 1
        first = int(self.remove_bg and not independent)
        rows = []
        for case_value, case_label in zip(value, label, strict=True):
            known = (case_label != UNKNOWN).any(0)
            cut_value, cut_label = case_value[:, known], case_label[:, known]
            absent = list_unlabelled(case_label[0], outputs.get(UNLABELLED_SETS, ()))
            if len(label[0]) > 1:
                # A region that was not labelled is unknown everywhere, others where nobody labelled.
                absent = {number for number, channel in enumerate(cut_label) if (channel < 0).any()}
            known_label = np.maximum(cut_label, 0).astype(np.uint8 if cut_label.max(initial=0) < 256 else np.int16)
            cut_outputs = outputs | {self.field: cut_value[None], self.label_field: known_label[None]}
            (scores,) = self.measure(cut_outputs)
            for number in absent:
                if 0 <= number - first < len(scores):
                    scores[number - first] = np.nan
            rows.append(scores)
        return join_batches([row[None] for row in rows])

    def count_overlaps(self, logits: torch.Tensor, label: torch.Tensor, activation: str) -> torch.Tensor:
        """Count the voxels of each class in a case, on the device where it is.

        Args:
            logits: (channel, ...spatial).
            label: (1, ...spatial) of class indices, or one channel a class; every voxel is labelled.
            activation: of the logits.

        Returns:
            (class, 3), integers: predicted, in the label, both. What :meth:`score_overlaps` makes of them is what
            :meth:`measure` says of the case.
        """
        import torch

        classes = len(logits)
        if len(label) > 1 and activation == "sigmoid" and len(label) == classes:
            pairs = list(zip(logits > self._logit, label > 0, strict=True))
        elif len(label) > 1:
            best = logits.argmax(0)
            pairs = [(best == number, label[number] > 0) for number in range(int(self.remove_bg), classes)]
        else:
            best = logits.argmax(0) if classes > 1 else (logits[0] > self._logit).long()
            pairs = [(best == number, label[0] == number) for number in range(int(self.remove_bg), max(classes, 2))]
        return torch.stack([torch.stack([p.sum(), t.sum(), (p & t).sum()]) for p, t in pairs])

    @staticmethod
    def score_overlaps(counts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the Dice of each class (1, class) from counts (class, 3); NaN where both masks are empty."""
        totals = (int(predicted) + int(truth) for predicted, truth, _ in counts)
        return np.array([[2 * int(row[2]) / n if n else np.nan for row, n in zip(counts, totals, strict=True)]])

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

    def summarise(self, batches: Sequence[NDArray[Any]], class_names: Sequence[str]) -> dict[str, float]:
        """Return the mean over cases, then over classes.

        Args:
            batches: (case, class) each, NaN where undefined.
            class_names: with or without the background; any other number of names makes the classes numbers from 1.

        Returns:
            The mean under ``name``; with several classes each class's under ``name_CLASS``.
        """
        by_class = [mean_defined(column) for column in join_batches(batches).T]
        values = {self.name: mean_defined(np.array(by_class))}
        if len(by_class) > 1:
            first = int(len(class_names) == len(by_class) + 1)
            names = class_names[first:] if len(class_names) == len(by_class) + first else range(1, len(by_class) + 1)
            values |= {f"{self.name}_{n}": value for n, value in zip(names, by_class, strict=True)}
        return values

    def average_by_case(self, batches: Sequence[NDArray[Any]]) -> list[float]:
        """Each case's mean over its classes, for the report; NaN where none is defined."""
        return [mean_defined(row) for row in join_batches(batches)]


def compute_dice_by_class(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of each case and class.

    Args:
        predicted: masks (batch, class, ...).
        truth: masks of the same shape.

    Returns:
        (batch, class); NaN where both masks are empty.
    """
    pairs = zip(predicted, truth, strict=True)
    return np.array([[compute_dice(p, t) for p, t in zip(ps, ts, strict=True)] for ps, ts in pairs])


def compute_dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice of two masks of one shape; NaN when both are empty.

    Example:
        >>> compute_dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else np.nan


def join_batches(batches: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Join the rows of all batches.

    Args:
        batches: (case, class) each; a batch may know fewer classes than others.

    Returns:
        (case, class) over all batches; classes that a batch knew nothing of are NaN.
    """
    width = max(part.shape[1] for part in batches)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=np.nan) for p in batches])
