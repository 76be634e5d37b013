"""Owns how good a classifier is: AUC, average precision, accuracy by class, and the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScore:
    """One class over all cases.

    Attributes:
        name: the class.
        positives: cases that have it.
        negatives: cases that don't.
        auc: area under the ROC curve; None where all cases are alike, since it has no meaning there.
        average_precision: None likewise.
        accuracy: share of cases on the right side of a probability of one half.
    """

    name: str
    positives: int
    negatives: int
    auc: float | None
    average_precision: float | None
    accuracy: float


def class_scores(truth: NDArray[Any], chances: NDArray[Any], names: Sequence[str]) -> list[ClassScore]:
    """Score each class by itself.

    Args:
        truth: 0 or 1, (case, class).
        chances: probabilities, (case, class).
        names: the classes.
    """
    return [_score(truth[:, n], chances[:, n], name) for n, name in enumerate(names)]


def accuracy(truth: NDArray[Any], chances: NDArray[Any], *, exclusive: bool) -> float:
    """Share of right answers.

    Args:
        truth: 0 or 1, (case, class).
        chances: probabilities, (case, class).
        exclusive: each case has exactly one class and the likeliest is the answer; else each class is an answer
            by itself, at one half.
    """
    if exclusive:
        return float((truth.argmax(axis=1) == chances.argmax(axis=1)).mean())
    return float(((chances >= 0.5) == (truth > 0)).mean())


def roc_rows(truth: NDArray[Any], chances: NDArray[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The points of each class's ROC curve, classes without one left out."""
    from sklearn.metrics import roc_curve

    rows = []
    for n, name in enumerate(names):
        if 0 < truth[:, n].sum() < len(truth):
            false, true, _ = roc_curve(truth[:, n], chances[:, n])
            rows += [{"class": name, "fpr": float(x), "tpr": float(y)} for x, y in zip(false, true, strict=True)]
    return rows


def _score(truth: NDArray[Any], chances: NDArray[Any], name: str) -> ClassScore:
    from sklearn.metrics import average_precision_score, roc_auc_score

    positives = int(truth.sum())
    negatives = len(truth) - positives
    hits = float(((chances >= 0.5) == (truth > 0)).mean())
    if not positives or not negatives:
        return ClassScore(name, positives, negatives, None, None, hits)
    auc = float(roc_auc_score(truth, chances))
    return ClassScore(name, positives, negatives, auc, float(average_precision_score(truth, chances)), hits)
