"""Computes the statistics of drift: population stability index, Kolmogorov-Smirnov, exact tests of categories, Holm.

The population stability index (PSI) says how far two distributions are apart, and is used with fixed borders: below 0.1
no shift, from 0.2 on a large one. In small samples it is large by chance alone, so a shift counts only where an exact
test proves it as well.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

MOST_BINS = 10  # deciles, as the index is usually computed
PER_BIN = 5  # of the reference: with fewer the index measures chance
SMOOTHING = 0.5  # of a case, added to each bin: without it an empty bin is infinitely far


def population_stability(reference: Sequence[float] | Numbers, incoming: Sequence[float] | Numbers) -> float:
    """PSI: the sum over bins of (q - p) ln(q / p).

    Bins hold equal shares of the reference; where it has few values, each is a bin. Half a case is added to every
    bin, so that an empty one is not infinitely far.

    Args:
        reference: numbers of the training's patients; they set the bins.
        incoming: numbers of the incoming patients.

    Returns:
        0 for equal shares in every bin; below 0.1 is usually called no shift, from 0.2 on a large one.

    Example:
        >>> spacings = [1.0] * 10 + [2.0] * 10
        >>> round(population_stability(spacings, spacings), 3)
        0.0
        >>> population_stability(spacings, [5.0] * 20) > 0.2
        True
    """
    reference_values, incoming_values = np.asarray(reference, float), np.asarray(incoming, float)
    edges = _find_bin_edges(reference_values)
    bins = 2 * len(edges) + 1
    counts = [
        np.bincount(_assign_bins(values, edges), minlength=bins) for values in (reference_values, incoming_values)
    ]
    used = (counts[0] + counts[1]) > 0
    return _sum_stability(counts[0][used], counts[1][used])


def category_stability(reference: Sequence[str], incoming: Sequence[str]) -> float:
    """PSI over categories: each category is a bin.

    Args:
        reference: the category of each of the training's patients.
        incoming: the category of each incoming patient; the training may not have had it.
    """
    reference_counts, incoming_counts = Counter(reference), Counter(incoming)
    names = sorted({*reference_counts, *incoming_counts})
    return _sum_stability(
        np.array([reference_counts[name] for name in names]), np.array([incoming_counts[name] for name in names])
    )


def kolmogorov_smirnov(reference: Numbers, incoming: Numbers) -> tuple[float, float]:
    """Compare two samples by the test of Kolmogorov and Smirnov, two-sided.

    Returns:
        The statistic D (the greatest distance of the two empirical distribution functions, 0 to 1) and its p, exact for
        samples up to 10,000. Where values are equal, p is greater than it need be: on the safe side.

    Example:
        >>> kolmogorov_smirnov(np.arange(5.0), np.arange(5.0) + 10)
        (1.0, 0.007936507936507936)
    """
    from scipy.stats import ks_2samp

    result = ks_2samp(reference, incoming)
    return float(result.statistic), float(result.pvalue)


def fisher_p_value(reference: Sequence[str], incoming: Sequence[str]) -> float:
    """The p of a difference between categories: the least p of all categories, times their number (Bonferroni).

    Each category is tested against all others by Fisher's exact test, two-sided.

    Returns:
        p, at most 1.
    """
    from scipy.stats import fisher_exact

    reference_counts, incoming_counts = Counter(reference), Counter(incoming)
    names = {*reference_counts, *incoming_counts}
    tables = (
        [
            [reference_counts[n], len(reference) - reference_counts[n]],
            [incoming_counts[n], len(incoming) - incoming_counts[n]],
        ]
        for n in names
    )
    return min(1.0, len(names) * min(float(fisher_exact(table).pvalue) for table in tables))


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for looking at many features at once, by Holm's method (1979).

    Args:
        p_values: one for each feature, tested alone.

    Returns:
        Adjusted values in the same order: where those up to alpha count, the chance of even one false alarm among all
        features is at most alpha.

    Example:
        >>> adjust_p_values([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = largest
    return adjusted


def smallest_p_value(reference: int, incoming: int) -> float:
    """The least p that two samples of these sizes can reach, when they don't overlap at all.

    Args:
        reference: patients in the training.
        incoming: incoming patients.

    Example:
        >>> round(smallest_p_value(10, 2), 3), smallest_p_value(10, 8) < 0.001
        (0.03, True)
    """
    return min(1.0, 2 / math.comb(reference + incoming, incoming))


def round_to_tolerance(reference: Numbers, incoming: Numbers, tolerance: float) -> tuple[Numbers, Numbers]:
    """Take away differences that are too small to mean anything, such as 3.0 and 3.0001 mm.

    Args:
        reference: numbers of the training's patients.
        incoming: numbers of the incoming patients.
        tolerance: a share of the reference's median, or of its middle half where that is greater.

    Returns:
        Both samples on a grid of that step around the reference's median.
    """
    low, middle, high = np.percentile(reference, (25, 50, 75))
    step = tolerance * max(abs(middle), high - low)
    if step <= 0:
        return reference, incoming
    first, second = (middle + np.round((values - middle) / step) * step for values in (reference, incoming))
    return first, second


def _find_bin_edges(reference: Numbers) -> Numbers:
    """Upper edges of all bins but the last."""
    distinct = np.unique(reference)
    count = int(np.clip(len(reference) // PER_BIN, 2, MOST_BINS))
    if len(distinct) <= count:
        return distinct
    edges: Numbers = np.unique(np.quantile(reference, np.arange(1, count) / count))
    return edges


def _assign_bins(values: Numbers, edges: Numbers) -> NDArray[np.int64]:
    """The bin of each value; a value that is an edge has a bin of its own where the reference has few values."""
    below, up_to = np.searchsorted(edges, values, "left"), np.searchsorted(edges, values, "right")
    return np.asarray(below + up_to, dtype=np.int64)


def _sum_stability(reference: NDArray[np.int64], incoming: NDArray[np.int64]) -> float:
    shares = [(counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts)) for counts in (reference, incoming)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
