"""Classification scores equal scikit-learn's and MONAI's; what has no meaning is None, not a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.metrics.calibration import CalibrationErrorMetric
from scipy.stats import bootstrap, mannwhitneyu
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from voxflow.evaluation import pool_held_out
from voxflow.evaluation.scores import (
    compute_accuracy,
    compute_mean_interval,
    make_calibration_rows,
    make_roc_rows,
    score_classes,
)

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 2, (40, 2))
CHANCES = np.clip(TRUTH * 0.3 + RNG.random((40, 2)) * 0.7, 0, 1).round(2)
DRAWN = RNG.integers(0, 40, (5, 40))


def test_auc_is_the_rank_sum() -> None:
    for n, score in enumerate(score_classes(TRUTH, CHANCES, ["a", "b"], samples=0).classes):
        positive, negative = CHANCES[TRUTH[:, n] == 1, n], CHANCES[TRUTH[:, n] == 0, n]
        expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
        assert score.auc == pytest.approx(expected)


@pytest.mark.parametrize("sample", [np.arange(40), *DRAWN])
def test_every_measure_is_scikit_learns_on_any_sample_of_the_cases(sample: np.ndarray) -> None:
    truth, probabilities = TRUTH[sample, 0], CHANCES[sample, 0]
    (score,) = score_classes(truth[:, None], probabilities[:, None], ["a"], specificity=0.8, samples=0).classes
    assert score.auc == pytest.approx(roc_auc_score(truth, probabilities))
    assert score.average_precision == pytest.approx(average_precision_score(truth, probabilities))
    assert score.accuracy == pytest.approx(accuracy_score(truth, probabilities >= 0.5))
    assert score.brier == pytest.approx(brier_score_loss(truth, probabilities))
    false, true, _ = roc_curve(truth, probabilities, drop_intermediate=False)
    assert score.sensitivity == pytest.approx(true[false <= 0.2 + 1e-9].max())


def test_calibration_error_is_monais() -> None:
    # MONAI's bins are open on the other side: no probability lies on an edge here.
    probabilities = RNG.random(200)
    truth = (RNG.random(200) < probabilities**2).astype(int)
    (score,) = score_classes(truth[:, None], probabilities[:, None], ["a"], samples=0).classes
    metric = CalibrationErrorMetric(num_bins=10)
    metric(y_pred=torch.tensor(probabilities).reshape(1, 1, -1), y=torch.tensor(truth).reshape(1, 1, -1))
    assert score.ece == pytest.approx(float(metric.aggregate()), abs=1e-6)
    rows = make_calibration_rows(truth[:, None], probabilities[:, None], ["a"])
    gaps = [row["cases"] * abs(row["mean_probability"] - row["share_positive"]) for row in rows]
    assert sum(gaps) / 200 == pytest.approx(score.ece)


def test_intervals_are_those_of_scipys_bootstrap() -> None:
    scores = score_classes(TRUTH, CHANCES, ["a", "b"], samples=4000)
    score = scores.classes[0]
    cases = (TRUTH[:, 0], CHANCES[:, 0])
    for name, measure in {"auc": roc_auc_score, "brier": brier_score_loss}.items():
        reference = bootstrap(
            cases, measure, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=1
        ).confidence_interval
        assert score.intervals[name] == pytest.approx((reference.low, reference.high), abs=0.02)
    low, high = scores.intervals["mean_auc"]
    assert low < np.mean([key.auc for key in scores.classes]) < high
    assert high - low < score.intervals["auc"][1] - score.intervals["auc"][0]


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = RNG.random(30)
    reference = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert compute_mean_interval(values.tolist()) == pytest.approx((reference.low, reference.high), abs=0.02)
    assert compute_mean_interval([0.5]) is None


def test_average_precision_of_a_known_ranking() -> None:
    truth, probabilities = np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.7], [0.1]])
    (score,) = score_classes(truth, probabilities, ["a"], samples=0).classes
    assert score.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert score.accuracy == 0.75
    assert (score.sensitivity, score.intervals) == (0.5, {})


def test_a_class_that_all_cases_share_has_no_auc() -> None:
    (score,) = score_classes(np.ones((5, 1)), np.linspace(0, 1, 5)[:, None], ["a"]).classes
    assert (score.auc, score.average_precision, score.positives, score.negatives) == (None, None, 5, 0)
    assert score.sensitivity is None
    assert set(score.intervals) == {"accuracy", "brier", "ece"}
    assert make_roc_rows(np.ones((5, 1)), np.linspace(0, 1, 5)[:, None], ["a"]) == []


def test_roc_runs_from_corner_to_corner() -> None:
    rows = [row for row in make_roc_rows(TRUTH, CHANCES, ["a", "b"]) if row["class"] == "b"]
    assert (rows[0]["fpr"], rows[0]["tpr"]) == (0, 0)
    assert (rows[-1]["fpr"], rows[-1]["tpr"]) == (1, 1)


def test_accuracy_of_exclusive_classes_takes_the_likeliest() -> None:
    truth, probabilities = np.array([[1, 0], [0, 1]]), np.array([[0.4, 0.3], [0.3, 0.4]])
    assert compute_accuracy(truth, probabilities, exclusive=True) == 1.0
    assert compute_accuracy(truth, probabilities, exclusive=False) == 0.5


def test_folds_are_pooled_with_an_interval_by_patient(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    chances = np.clip(truth * 0.3 + rng.random(60) * 0.7, 0, 1)
    for fold in range(2):
        rows = [f"c{n},{truth[n]},{float(chances[n])!r}" for n in range(fold, 60, 2)]
        (tmp_path / f"{fold}.csv").write_text("\n".join(["case,mass,probability_mass", *rows]) + "\n")
    tables = [tmp_path / f"{fold}.csv" for fold in range(2)]
    pooled = pool_held_out(tables, {})
    assert pooled["mean_auc"] == pooled["auc_mass"] == pytest.approx(roc_auc_score(truth, chances))
    # Ten times the same case say no more than one: its patient's interval is as wide as if it stood there once.
    copies = [tmp_path / f"copy{n}.csv" for n in range(10)]
    for n, copy in enumerate(copies):
        copy.write_text((tables[0].read_text()).replace("\nc", f"\ncopy{n}_c"))
    patients = {f"copy{n}_c{case}": f"p{case}" for n in range(10) for case in range(60)}
    once, many = pool_held_out(tables[:1], {}), pool_held_out(copies, patients)
    assert many["mean_auc"] == pytest.approx(once["mean_auc"])
    widths = [numbers["mean_auc_high"] - numbers["mean_auc_low"] for numbers in (once, many, pool_held_out(copies, {}))]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] < widths[0] / 2
    assert pool_held_out([tmp_path / "nowhere.csv"], {}) == {}
