"""Compares two models on the same cases: the gain, its interval, its p value, and the change of each class.

Both models answer the same cases, so the comparison is paired. The results of both are stacked in one array, the new
model's rows first: row n and row n + count are one case. A score is a function of row numbers, so that three questions
take one implementation:

- the gain is the score of the new rows minus that of the old rows;
- its interval draws cases with replacement, 2,000 times, and takes both rows of each (a bootstrap; percentiles 2.5
  and 97.5);
- its p value swaps the two rows of cases at random: were both models equally good, every swap would be as likely as
  none (a permutation test: ``scipy.stats.permutation_test`` with ``permutation_type="samples"``).

The mean Dice is a mean over cases, but an AUC is not: it is computed anew of every drawn or swapped set of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.promotion.options import PromoteOptions
    from voxflow.promotion.scores import CaseScores

RESAMPLES = 2000  # of the interval
BATCH = 500  # permutations at a time: bounds the memory of the AUC's ranks
TIE = 1e-9  # cases whose scores differ by no more are equal: sums in another order differ by about 1e-16


@dataclass(frozen=True)
class PairedResult:
    """How a new model differs from an old one, on the cases that both were to be judged by.

    Attributes:
        metric: the key metric's name.
        cases: how many cases took part.
        new, old: the key metric of each.
        gain: new minus old.
        interval: 95 % of it, by resampling cases; NaN where it can't be told.
        p_value: how often a gain as great comes up when every case's two results are swapped at random.
        least_p: the least p that so few cases can reach.
        wins, losses, ties: cases by which is better.
        classes: change of each class's score; NaN where it is undefined.
    """

    metric: str
    cases: int
    new: float
    old: float
    gain: float
    interval: tuple[float, float]
    p_value: float
    least_p: float
    wins: int
    losses: int
    ties: int
    classes: Mapping[str, float]


def compare_cases(new: CaseScores, old: CaseScores, options: PromoteOptions) -> PairedResult:
    """Compare two models case by case.

    A case that only one of them could be used on counts for the other: Dice 0, or the wrong answer with certainty. A
    class that is in neither reference nor mask is right, and where one model invents it the other has Dice 1.

    Args:
        new: scores of the model in question.
        old: scores of the model to compare with.
        options: seed and number of permutations.

    Raises:
        DataError: they were judged on other classes or tasks, their truths differ, or no case has a score.

    Example:
        >>> from voxflow.promotion import CaseScores, PromoteOptions
        >>> old = CaseScores("segmentation", ("spleen",), {f"case{n}": (0.80,) for n in range(6)}, {})
        >>> new = CaseScores("segmentation", ("spleen",), {f"case{n}": (0.85,) for n in range(6)}, {})
        >>> result = compare_cases(new, old, PromoteOptions())
        >>> round(result.gain, 3), result.wins, result.p_value  # of 2 ** 6 ways to swap, one gains as much
        (0.05, 6, 0.015625)
    """
    if (new.task, new.classes) != (old.task, old.classes):
        raise DataError(
            f"the models don't answer the same question: {new.task} of {', '.join(new.classes)}, "
            f"and {old.task} of {', '.join(old.classes)}"
        )
    if new.task == "segmentation":
        return _compare_segmentations(new, old, options)
    return _compare_classifications(new, old, options)


def compute_key_metric(scores: CaseScores) -> float:
    """Compute the score that models are compared by: the mean Dice over cases, or the mean AUC over classes.

    Returns:
        NaN where no case has a score. A case of a segmentation that failed counts as Dice 0.

    Example:
        >>> from voxflow.promotion import CaseScores
        >>> compute_key_metric(CaseScores("segmentation", ("spleen",), {"a": (0.8,)}, {}, failed=("b",)))
        0.4
    """
    values = scores.array(scores.cases)
    if scores.task == "segmentation":
        return _mean_defined(np.concatenate([_mean_rows(values), np.zeros(len(scores.failed))]))
    truth = np.array([scores.truth[case] for case in scores.cases], float).reshape(values.shape)
    return _mean_defined(np.array([_compute_auc(values[:, n], truth[:, n]) for n, _ in _number_classes(scores)]))


def compute_case_gains(new: CaseScores, old: CaseScores) -> dict[str, float]:
    """Say by case how much better the new model is.

    Returns:
        Segmentation: the difference of the mean Dice over classes. Classification: how much nearer the probabilities
        are to the truth, as a mean over classes. Cases without any defined score are left out.

    Raises:
        DataError: the truths of a case differ.
    """
    cases = tuple(sorted({*new.values, *old.values}))
    if new.task == "segmentation":
        first, second = _fill_undefined(new, old, cases)
        gains = _mean_rows(first) - _mean_rows(second)
    else:
        first, second, truth = _stack_probabilities(new, old, cases)
        gains = (np.abs(second - truth) - np.abs(first - truth)).mean(axis=1)
    return {case: float(gain) for case, gain in zip(cases, gains, strict=True) if not math.isnan(gain)}


def _compare_segmentations(new: CaseScores, old: CaseScores, options: PromoteOptions) -> PairedResult:
    cases = tuple(sorted({*new.values, *old.values}))
    first, second = _fill_undefined(new, old, cases)
    by_case = np.stack([_mean_rows(first), _mean_rows(second)])
    has_dice = ~np.isnan(by_case).any(axis=0)
    if not has_dice.any():
        raise DataError("no case has a Dice, since no class is in any reference or mask")
    stacked = np.concatenate([by_case[0, has_dice], by_case[1, has_dice]])
    classes = {name: _mean_defined(first[:, n] - second[:, n]) for n, name in enumerate(new.classes)}
    return _test_gain(
        new.key_metric,
        lambda index: stacked[index].mean(axis=-1),
        int(has_dice.sum()),
        classes=classes,
        options=options,
    )


def _compare_classifications(new: CaseScores, old: CaseScores, options: PromoteOptions) -> PairedResult:
    cases = tuple(sorted({*new.values, *old.values}))
    first, second, truth = _stack_probabilities(new, old, cases)
    probabilities, truths = np.concatenate([first, second]), np.concatenate([truth, truth])
    classes = {
        name: _compute_auc(first[:, n], truth[:, n]) - _compute_auc(second[:, n], truth[:, n])
        for n, name in _number_classes(new)
    }
    if all(math.isnan(change) for change in classes.values()):
        raise DataError("no class has an AUC: each is in all cases or in none")

    def mean_auc(index: NDArray[Any]) -> NDArray[Any]:
        aucs = np.stack([_compute_auc(probabilities[index, n], truths[index, n]) for n, _ in _number_classes(new)])
        defined = ~np.isnan(aucs)
        means: NDArray[Any] = np.where(defined, aucs, 0.0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
        return np.where(defined.any(axis=0), means, np.nan)

    return _test_gain(
        new.key_metric,
        mean_auc,
        len(cases),
        classes=classes,
        options=options,
        errors=np.abs(probabilities - truths).mean(axis=1),
    )


def _test_gain(
    metric: str,
    score: Callable[[NDArray[Any]], NDArray[Any]],
    count: int,
    *,
    classes: Mapping[str, float],
    options: PromoteOptions,
    errors: NDArray[Any] | None = None,
) -> PairedResult:
    """The test on row numbers: those below ``count`` are the new model's results, the others the old one's."""
    new_rows, old_rows = np.arange(count), np.arange(count) + count
    gain = float(score(new_rows) - score(old_rows))
    # Of one case there are two ways to swap, which scipy refuses to test.
    p_value = _compute_p_value(score, count, options) if count > 1 else (0.5 if gain > 0 else 1.0)
    resampled = np.random.default_rng(options.seed).integers(0, count, (RESAMPLES, count))
    spread = score(resampled) - score(resampled + count)
    spread = spread[~np.isnan(spread)]
    interval = tuple(float(edge) for edge in np.percentile(spread, (2.5, 97.5))) if spread.size else (math.nan,) * 2
    row_scores = -errors if errors is not None else np.array([float(score(np.array([n]))) for n in range(2 * count)])
    differences = row_scores[:count] - row_scores[count:]
    return PairedResult(
        metric=metric,
        cases=count,
        new=float(score(new_rows)),
        old=float(score(old_rows)),
        gain=gain,
        interval=(interval[0], interval[1]),
        p_value=p_value,
        least_p=max(0.5**count, 1 / (options.permutations + 1)),
        wins=int((differences > TIE).sum()),
        losses=int((differences < -TIE).sum()),
        ties=int((np.abs(differences) <= TIE).sum()),
        classes=classes,
    )


def _compute_p_value(score: Callable[[NDArray[Any]], NDArray[Any]], count: int, options: PromoteOptions) -> float:
    from scipy.stats import permutation_test

    def gain(x: NDArray[Any], y: NDArray[Any], axis: int) -> NDArray[Any]:
        rows = (np.moveaxis(sample, axis, -1).astype(int) for sample in (x, y))
        new_score, old_score = (score(sample) for sample in rows)
        return np.asarray(new_score - old_score)

    result = permutation_test(
        (np.arange(count), np.arange(count) + count),
        gain,
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=options.permutations,
        batch=BATCH,
        rng=np.random.default_rng(options.seed),
    )
    return float(result.pvalue)


def _fill_undefined(new: CaseScores, old: CaseScores, cases: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Dice of both, undefined only where both are; see :func:`compare_cases`."""
    first, second = new.array(cases), old.array(cases)
    results = []
    for scores, dice, other_dice in ((new, first, second), (old, second, first)):
        was_evaluated = np.array([case in scores.values for case in cases])[:, None]
        results.append(np.where(np.isnan(dice) & ~np.isnan(other_dice), np.where(was_evaluated, 1.0, 0.0), dice))
    return results[0], results[1]


def _stack_probabilities(
    new: CaseScores, old: CaseScores, cases: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    differing_cases = [
        case for case in cases if case in new.truth and case in old.truth and new.truth[case] != old.truth[case]
    ]
    if differing_cases:
        raise DataError(f"the findings of {differing_cases[0]} differ between the evaluations")
    truth = np.array([new.truth.get(case) or old.truth[case] for case in cases], float).reshape(len(cases), -1)
    arrays = (scores.array(cases) for scores in (new, old))
    first, second = (np.where(np.isnan(array), 1 - truth, array) for array in arrays)
    return first, second, truth


def _compute_auc(probabilities: NDArray[Any], truth: NDArray[Any]) -> Any:
    """Area under the ROC curve along the last axis, by ranks; NaN where all cases are alike."""
    from scipy.stats import rankdata

    positives = truth.sum(axis=-1)
    pairs = positives * (truth.shape[-1] - positives)
    ranks = (rankdata(probabilities, axis=-1) * truth).sum(axis=-1) - positives * (positives + 1) / 2
    return np.divide(ranks, pairs, out=np.full(np.shape(pairs), np.nan), where=pairs > 0)[()]


def _number_classes(scores: CaseScores) -> list[tuple[int, str]]:
    return list(enumerate(scores.classes))


def _mean_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([_mean_defined(row) for row in values])


def _mean_defined(values: NDArray[Any]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
