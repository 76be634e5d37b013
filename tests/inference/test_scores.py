"""Classification scores equal an independent computation; what has no meaning is None, not a number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from voxflow.inference.scores import accuracy, class_scores, roc_rows

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 2, (40, 2))
CHANCES = np.clip(TRUTH * 0.3 + RNG.random((40, 2)) * 0.7, 0, 1).round(2)


def test_auc_is_the_rank_sum() -> None:
    for n, score in enumerate(class_scores(TRUTH, CHANCES, ["a", "b"])):
        positive, negative = CHANCES[TRUTH[:, n] == 1, n], CHANCES[TRUTH[:, n] == 0, n]
        expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
        assert score.auc == pytest.approx(expected)


def test_average_precision_of_a_known_ranking() -> None:
    (score,) = class_scores(np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.1]]), ["a"])
    assert score.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert score.accuracy == 0.75


def test_a_class_that_all_cases_share_has_no_auc() -> None:
    (score,) = class_scores(np.ones((5, 1)), np.linspace(0, 1, 5)[:, None], ["a"])
    assert (score.auc, score.average_precision, score.positives, score.negatives) == (None, None, 5, 0)
    assert roc_rows(np.ones((5, 1)), np.linspace(0, 1, 5)[:, None], ["a"]) == []


def test_roc_runs_from_corner_to_corner() -> None:
    rows = [row for row in roc_rows(TRUTH, CHANCES, ["a", "b"]) if row["class"] == "b"]
    assert (rows[0]["fpr"], rows[0]["tpr"]) == (0, 0)
    assert (rows[-1]["fpr"], rows[-1]["tpr"]) == (1, 1)


def test_accuracy_of_exclusive_classes_takes_the_likeliest() -> None:
    truth, chances = np.array([[1, 0], [0, 1]]), np.array([[0.4, 0.3], [0.3, 0.4]])
    assert accuracy(truth, chances, exclusive=True) == 1.0
    assert accuracy(truth, chances, exclusive=False) == 0.5
