"""Owns the statistics of drift: population stability index, Kolmogorov-Smirnov, exact tests of categories, Holm."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

MOST_BINS = 10
PER_BIN = 5  # of the reference: with fewer the index measures chance
SMOOTHING = 0.5


def population_stability(reference: Sequence[float] | Numbers, incoming: Sequence[float] | Numbers) -> float:
    """PSI: the sum over bins of (q - p) ln(q / p).

    Bins hold equal shares of the reference; where it has few values, each is a bin. Half a case is added to every
    bin, so that an empty one is not infinitely far.

    Args:
        reference: numbers.
        incoming: numbers.
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
    """PSI over categories."""
    reference_counts, incoming_counts = Counter(reference), Counter(incoming)
    names = sorted({*reference_counts, *incoming_counts})
    return _sum_stability(
        np.array([reference_counts[name] for name in names]), np.array([incoming_counts[name] for name in names])
    )


def kolmogorov_smirnov(reference: Numbers, incoming: Numbers) -> tuple[float, float]:
    """The two-sample statistic D and its p, exact for samples up to 10,000; with ties p is on the safe side."""
    from scipy.stats import ks_2samp

    result = ks_2samp(reference, incoming)
    return float(result.statistic), float(result.pvalue)


def fisher_p_value(reference: Sequence[str], incoming: Sequence[str]) -> float:
    """The p of a difference: the least of Fisher's exact tests of each category, times the number of categories."""
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
    """Adjust p for looking at many features at once (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = largest
    return adjusted


def smallest_p_value(reference: int, incoming: int) -> float:
    """The least p that two samples of these sizes can reach, when they don't overlap at all."""
    return min(1.0, 2 / math.comb(reference + incoming, incoming))


def round_to_tolerance(reference: Numbers, incoming: Numbers, tolerance: float) -> tuple[Numbers, Numbers]:
    """Both with differences below ``tolerance`` of their usual size taken away."""
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
