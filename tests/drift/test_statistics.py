"""The statistics of drift are those of scipy and of the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import fisher_exact, ks_2samp

from voxflow.drift.statistics import (
    adjust_p_values,
    category_stability,
    fisher_p_value,
    kolmogorov_smirnov,
    population_stability,
    round_to_tolerance,
    smallest_p_value,
)

RNG = np.random.default_rng(0)


def test_stability_is_the_textbooks_sum_over_equal_bins() -> None:
    reference, incoming = RNG.normal(size=2000), RNG.normal(0.5, 1.2, 3000)
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    p, q = (
        np.histogram(values, np.concatenate([[-np.inf], edges, [np.inf]]))[0] / len(values)
        for values in (reference, incoming)
    )
    expected = float(((q - p) * np.log(q / p)).sum())
    assert population_stability(reference, incoming) == pytest.approx(expected, rel=0.02)


def test_stability_of_the_same_population_is_small_and_of_another_large() -> None:
    reference = RNG.normal(size=400)
    assert population_stability(reference, RNG.normal(size=400)) < 0.1
    assert population_stability(reference, RNG.normal(1, 1, 400)) > 0.5


def test_a_constant_that_changes_is_seen() -> None:
    assert population_stability(np.full(20, 5.0), np.full(20, 5.0)) == 0.0
    assert population_stability(np.full(20, 5.0), np.full(20, 1.25)) > 1
    assert population_stability(np.full(20, 5.0), np.full(20, 5.001)) > 1


@pytest.mark.parametrize("sizes", [(30, 12), (200, 150)])
def test_kolmogorov_smirnov_is_scipys(sizes: tuple[int, int]) -> None:
    first, second = RNG.normal(size=sizes[0]), RNG.normal(0.4, 1, sizes[1])
    expected = ks_2samp(first, second)
    assert kolmogorov_smirnov(first, second) == (expected.statistic, expected.pvalue)


def test_least_p_is_that_of_samples_that_do_not_overlap() -> None:
    assert smallest_p_value(12, 5) == pytest.approx(ks_2samp(np.arange(12), 100 + np.arange(5)).pvalue)


def test_categories_are_told_by_fishers_test_of_the_rarest() -> None:
    reference, incoming = ["A"] * 30 + ["B"] * 10, ["B"] * 9 + ["A"]
    single = fisher_exact([[30, 10], [1, 9]]).pvalue
    assert fisher_p_value(reference, incoming) == pytest.approx(2 * single)
    assert fisher_p_value(reference, reference) == 1.0


def test_stability_of_categories() -> None:
    assert category_stability(["A"] * 50, ["A"] * 50) == 0.0
    assert category_stability(["A"] * 50, ["C"] * 5) > 1


def test_holm_steps_down() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([]) == []


def test_what_is_nearer_than_the_tolerance_is_equal() -> None:
    first, second = round_to_tolerance(np.array([3.0, 3.0, 3.0]), np.array([3.0001, 2.9999, 3.2]), 0.01)
    assert list(second) == pytest.approx([3.0, 3.0, 3.21])
    assert list(first) == [3.0, 3.0, 3.0]
    assert math.isclose(round_to_tolerance(np.zeros(3), np.array([0.1]), 0.01)[1][0], 0.1)
