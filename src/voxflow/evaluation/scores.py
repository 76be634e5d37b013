"""Scores a classifier: ranking, decisions and calibration by class, with bootstrap intervals.

Every measure is computed for many weightings of the cases at once. With weights of one it is the measure itself; with
the numbers of times that each case is drawn, with replacement, it is one of the bootstrap's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MEASURES = ("auc", "average_precision", "accuracy", "sensitivity", "brier", "ece")
# Of these there is none where all cases are alike.
NEED_BOTH = ("auc", "average_precision", "sensitivity")
BINS = 10
LEVEL = 0.95
# Fixed, so that the same cases always have the same intervals.
SEED = 0
# Weights that are held at a time.
AT_A_TIME = 1 << 21
Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassScore:
    """One class over all cases; None: not defined.

    Attributes:
        name: the class.
        positives: cases that have it.
        negatives: cases that don't.
        auc: area under the ROC curve; None where all cases are alike, since it has no meaning there.
        average_precision: None likewise.
        accuracy: share of cases on the right side of a probability of one half.
        sensitivity: the greatest at which the specificity is at least the one asked for; None likewise.
        brier: mean squared difference of probability and truth.
        ece: expected calibration error: the difference of mean probability and share of positives in ten bins of
            equal width, weighted by their cases.
        intervals: 95 % bootstrap interval by measure, where there is one.
    """

    name: str
    positives: int
    negatives: int
    auc: float | None
    average_precision: float | None
    accuracy: float
    sensitivity: float | None
    brier: float
    ece: float
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """All classes, and the means over those that have an AUC.

    Attributes:
        classes: one entry a class.
        intervals: 95 % bootstrap interval of mean_auc and mean_average_precision, where there is one.
    """

    classes: tuple[ClassScore, ...]
    intervals: dict[str, Interval]


def score_classes(
    truth: NDArray[Any],
    probabilities: NDArray[Any],
    names: Sequence[str],
    *,
    specificity: float = 0.9,
    samples: int = 1000,
    patients: Sequence[str] = (),
) -> Scores:
    """Score each class by itself; all classes of a bootstrap sample come from the same cases.

    Args:
        truth: 0 or 1, (case, class).
        probabilities: probabilities, (case, class).
        names: the classes.
        specificity: at which sensitivity is read off the ROC curve.
        samples: how many times the cases are drawn anew; 0: no intervals. Samples in which a measure is not defined
            do not count for it.
        patients: of each case; given, patients are drawn with all their cases, which are alike. Empty: cases are drawn.

    Example:
        >>> truth, probabilities = np.array([[1], [1], [0], [0]]), np.array([[0.9], [0.4], [0.6], [0.1]])
        >>> score = score_classes(truth, probabilities, ["mass"], samples=0).classes[0]
        >>> score.auc, score.accuracy, score.sensitivity
        (0.75, 0.5, 0.5)
    """
    once = np.ones((1, len(truth)))
    at_hand = [_compute_measures(truth[:, n], probabilities[:, n], once, specificity) for n in range(len(names))]
    samples_of = [{name: np.concatenate(parts) for name, parts in repetition.items()}
             for repetition in _resample_measures(truth, probabilities, specificity, samples, patients)]  # fmt: skip
    classes = tuple(
        _make_class_score(name, truth[:, n], at_hand[n], samples_of[n] if samples_of else {})
        for n, name in enumerate(names)
    )
    defined = [n for n, repetition in enumerate(classes) if repetition.auc is not None]
    means = {
        f"mean_{measure}": np.mean([samples_of[n][measure] for n in defined], axis=0)
        for measure in ("auc", "average_precision")
        if samples_of and defined
    }
    return Scores(classes, _compute_intervals(means))


def compute_mean_interval(values: Sequence[float], samples: int = 1000) -> Interval | None:
    """Compute the 95 % bootstrap interval of a mean over cases.

    Args:
        values: one a case.
        samples: how many times the cases are drawn anew, with replacement, from a fixed seed.

    Returns:
        The lower and the upper bound; None of fewer than two values, or no samples.

    Example:
        >>> low, high = compute_mean_interval([0.8, 0.9, 0.85, 0.7])
        >>> f"{low:.4f} to {high:.4f}"
        '0.7375 to 0.8750'
    """
    if len(values) < 2 or not samples:
        return None
    draws = np.random.default_rng(SEED).integers(0, len(values), (samples, len(values)))
    return _compute_intervals({"mean": np.asarray(values)[draws].mean(axis=1)})["mean"]


def compute_accuracy(truth: NDArray[Any], probabilities: NDArray[Any], *, exclusive: bool) -> float:
    """Share of right answers.

    Args:
        truth: 0 or 1, (case, class).
        probabilities: probabilities, (case, class).
        exclusive: each case has exactly one class and the likeliest is the answer; else each class is an answer
            by itself, at one half.
    """
    if exclusive:
        return float((truth.argmax(axis=1) == probabilities.argmax(axis=1)).mean())
    return float(((probabilities >= 0.5) == (truth > 0)).mean())


def make_roc_rows(truth: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """List the points of each class's ROC curve, for roc.csv.

    Args:
        truth: 0 or 1, (case, class).
        probabilities: (case, class).
        names: the classes; one whose cases are all alike has no curve and is left out.

    Returns:
        Rows of class, fpr (1 - specificity) and tpr (sensitivity).
    """
    from sklearn.metrics import roc_curve

    rows = []
    for n, name in enumerate(names):
        if 0 < truth[:, n].sum() < len(truth):
            false, true, _ = roc_curve(truth[:, n], probabilities[:, n])
            rows += [{"class": name, "fpr": float(x), "tpr": float(y)} for x, y in zip(false, true, strict=True)]
    return rows


def make_calibration_rows(
    truth: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    """List the bins of each class that hold a case, for calibration.csv.

    Args:
        truth: 0 or 1, (case, class).
        probabilities: (case, class).
        names: the classes.

    Returns:
        Rows of class, the bin's bounds, its cases, their mean probability, and the share of them that has the class.
    """
    rows = []
    for n, name in enumerate(names):
        bins = _find_bins(probabilities[:, n])
        for number in np.unique(bins):
            inside = bins == number
            rows.append({
                "class": name,
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "cases": int(inside.sum()),
                "mean_probability": float(probabilities[inside, n].mean()),
                "share_positive": float((truth[inside, n] > 0).mean()),
            })  # fmt: skip
    return rows


def _resample_measures(
    truth: NDArray[Any], probabilities: NDArray[Any], specificity: float, samples: int, patients: Sequence[str]
) -> list[dict[str, list[NDArray[np.float64]]]]:
    """Every class's measures of every bootstrap sample; an empty list where there are none."""
    if not samples or len(truth) < 2:
        return []
    measures: list[dict[str, list[NDArray[np.float64]]]] = [
        {name: [] for name in MEASURES} for _ in range(truth.shape[1])
    ]
    for weights in _draw_weights(len(truth), samples, patients):
        for n, parts in enumerate(measures):
            for name, values in _compute_measures(truth[:, n], probabilities[:, n], weights, specificity).items():
                parts[name].append(values)
    return measures


def _draw_weights(cases: int, samples: int, patients: Sequence[str] = ()) -> Iterator[NDArray[np.float64]]:
    """How many times each case is drawn, (sample, case), a few samples at a time."""
    generator = np.random.default_rng(SEED)
    step = max(1, AT_A_TIME // cases)
    names, unit_of_case = np.unique(patients, return_inverse=True) if len(patients) else (range(cases), slice(None))
    units = len(names)
    for first in range(0, samples, step):
        draws = generator.multinomial(units, np.full(units, 1 / units), min(step, samples - first))
        yield draws[:, unit_of_case].astype(float)


def _compute_measures(
    truth: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.float64], specificity: float
) -> dict[str, NDArray[np.float64]]:
    """Each measure of one class for every row of weights (sample, case); NaN where it is not defined."""
    has = truth > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        ranking = _compute_ranking(has, probabilities, weights, specificity)
        mean = 1 / weights.sum(axis=1)
        ranking["accuracy"] = weights @ ((probabilities >= 0.5) == has) * mean
        ranking["brier"] = weights @ (probabilities - has) ** 2 * mean
        ranking["ece"] = _compute_calibration_error(has, probabilities, weights) * mean
    return ranking


def _compute_ranking(
    has: NDArray[np.bool_], probabilities: NDArray[Any], weights: NDArray[np.float64], specificity: float
) -> dict[str, NDArray[np.float64]]:
    """What follows from the order of the probabilities alone; equal ones stand together."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    positive = np.add.reduceat(weights[:, order] * has[order], begins, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~has[order], begins, axis=1)
    above, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    positives, negatives = above[:, -1:], false[:, -1:]
    undefined = ((positives == 0) | (negatives == 0)).ravel()
    area = (negative * (above - positive / 2)).sum(axis=1) / (positives * negatives).ravel()
    # A threshold that nobody of the sample stands at has no precision, and adds no recall.
    precision = np.divide(above, above + false, out=np.zeros_like(above), where=above + false > 0)
    average = (positive * precision).sum(axis=1) / positives.ravel()
    allowed = false <= (1 - specificity) * negatives * (1 + 1e-12)
    sensitivity = np.where(allowed, above, 0).max(axis=1) / positives.ravel()
    measures = {"auc": area, "average_precision": average, "sensitivity": sensitivity}
    return {name: np.where(undefined, np.nan, values) for name, values in measures.items()}


def _compute_calibration_error(
    has: NDArray[np.bool_], probabilities: NDArray[Any], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    bins = _find_bins(probabilities)
    gaps = [np.abs(weights[:, bins == n] @ (probabilities - has)[bins == n]) for n in np.unique(bins)]
    return np.asarray(np.sum(gaps, axis=0))


def _find_bins(probabilities: NDArray[Any]) -> NDArray[np.intp]:
    return np.minimum((probabilities * BINS).astype(np.intp), BINS - 1)


def _make_class_score(
    name: str, truth: NDArray[Any], measures: dict[str, NDArray[np.float64]], resampled: dict[str, NDArray[np.float64]]
) -> ClassScore:
    positives = int((truth > 0).sum())
    value = {measure: float(measures[measure][0]) for measure in MEASURES}
    undefined = not 0 < positives < len(truth)
    intervals = _compute_intervals(
        {key: values for key, values in resampled.items() if not (undefined and key in NEED_BOTH)}
    )
    return ClassScore(
        name,
        positives,
        len(truth) - positives,
        None if undefined else value["auc"],
        None if undefined else value["average_precision"],
        value["accuracy"],
        None if undefined else value["sensitivity"],
        value["brier"],
        value["ece"],
        intervals,
    )


def _compute_intervals(resampled: dict[str, NDArray[np.float64]]) -> dict[str, Interval]:
    edges = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    intervals = {}
    for name, values in resampled.items():
        defined = values[~np.isnan(values)]
        if len(defined):
            low, high = np.percentile(defined, edges)
            intervals[name] = (float(low), float(high))
    return intervals
