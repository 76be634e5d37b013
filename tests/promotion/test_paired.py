"""The paired test is scipy's and scikit-learn's on the same numbers, and knows too few cases from no difference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binomtest, wilcoxon
from sklearn.metrics import roc_auc_score

from voxflow.errors import DataError
from voxflow.promotion import CaseScores, PromoteOptions, compare_cases, read_scores
from voxflow.promotion.paired import compute_case_gains

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = PromoteOptions()


def dice(*rows: tuple[float, ...], classes: tuple[str, ...] = ("spleen",)) -> CaseScores:
    return CaseScores("segmentation", classes, {f"c{n}": row for n, row in enumerate(rows)}, {})


def findings(truth: list[int], chances: np.ndarray) -> CaseScores:
    cases = [f"c{n}" for n in range(len(truth))]
    values = {case: (float(chance),) for case, chance in zip(cases, chances, strict=True)}
    return CaseScores("classification", ("mass",), values, {c: (t,) for c, t in zip(cases, truth, strict=True)})


def test_all_better_by_the_same_is_the_sign_test() -> None:
    old = dice(*[(0.5 + n / 100,) for n in range(8)])
    new = dice(*[(0.6 + n / 100,) for n in range(8)])
    result = compare_cases(new, old, OPTIONS)
    assert result.p_value == pytest.approx(binomtest(8, 8, alternative="greater").pvalue)
    assert result.gain == pytest.approx(0.1)
    assert (result.wins, result.losses, result.ties) == (8, 0, 0)
    assert result.interval == pytest.approx((0.1, 0.1))


def test_p_is_close_to_wilcoxons_on_symmetric_differences() -> None:
    rng = np.random.default_rng(3)
    old = rng.uniform(0.6, 0.9, 60)
    new = old + rng.normal(0.004, 0.02, 60)
    result = compare_cases(dice(*zip(new)), dice(*zip(old)), OPTIONS)
    assert result.p_value == pytest.approx(wilcoxon(new, old, alternative="greater").pvalue, abs=0.03)
    assert result.gain == pytest.approx(float((new - old).mean()))


def test_equal_models_are_promoted_as_seldom_as_alpha_says() -> None:
    options = PromoteOptions(permutations=499)
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 0.9, (2, 12)) for _ in range(300)]
    result = [compare_cases(dice(*zip(a)), dice(*zip(b)), options).p_value <= 0.05 for a, b in values]
    assert np.mean(result) < 0.08


def test_gain_of_a_classifier_is_scikit_learns_auc() -> None:
    rng = np.random.default_rng(1)
    truth = [int(n % 3 == 0) for n in range(90)]
    old = rng.uniform(0, 1, 90).round(1)  # with ties
    new = np.clip(old + 0.25 * (2 * np.array(truth) - 1), 0, 1)
    result = compare_cases(findings(truth, new), findings(truth, old), OPTIONS)
    assert result.new == pytest.approx(roc_auc_score(truth, new))
    assert result.old == pytest.approx(roc_auc_score(truth, old))
    assert result.p_value < 0.01
    assert result.wins == 90 - result.ties


def test_the_same_model_gains_nothing() -> None:
    rows = dice((0.7,), (0.8,), (0.9,), (0.6,), (0.5,))
    result = compare_cases(rows, rows, OPTIONS)
    assert (result.gain, result.p_value, result.ties) == (0.0, 1.0, 5)


def test_one_case_is_even_odds() -> None:
    assert compare_cases(dice((0.9,)), dice((0.7,)), OPTIONS).p_value == 0.5
    assert compare_cases(dice((0.6,)), dice((0.7,)), OPTIONS).p_value == 1.0


def test_a_case_that_the_new_model_fails_counts_as_zero() -> None:
    old = dice((0.8,), (0.8,))
    new = CaseScores("segmentation", ("spleen",), {"c0": (0.9,)}, {})
    assert compute_case_gains(new, old) == {"c0": pytest.approx(0.1), "c1": pytest.approx(-0.8)}


def test_to_invent_a_class_costs_and_to_leave_it_out_does_not() -> None:
    right, inventing = dice((math.nan,), (0.8,)), dice((0.0,), (0.8,))
    assert compute_case_gains(right, inventing) == {"c0": 1.0, "c1": 0.0}
    assert compute_case_gains(inventing, right) == {"c0": -1.0, "c1": 0.0}


def test_classes_are_told_apart() -> None:
    new = dice((0.9, 0.5), (0.9, 0.5), classes=("liver", "tumour"))
    old = dice((0.8, 0.6), (0.8, math.nan), classes=("liver", "tumour"))
    result = compare_cases(new, old, OPTIONS)
    assert result.classes == {"liver": pytest.approx(0.1), "tumour": pytest.approx(-0.3)}


def test_models_of_other_classes_are_not_compared() -> None:
    with pytest.raises(DataError, match="the same question: segmentation of liver, and segmentation of spleen"):
        compare_cases(dice((0.9,), classes=("liver",)), dice((0.9,)), OPTIONS)


def test_nothing_to_compare_is_said() -> None:
    empty = dice((math.nan,))
    with pytest.raises(DataError, match="no case has a Dice"):
        compare_cases(empty, empty, OPTIONS)


def test_tables_are_read_as_evaluate_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "per_case.csv"
    path.write_text("case,mean_dice,dice_spleen,hd95_mm_spleen,remark\na,0.5,0.5,2,\nb,,,,spleen: empty\n")
    scores = read_scores(path)
    assert (scores.task, scores.classes, scores.values["a"]) == ("segmentation", ("spleen",), (0.5,))
    assert math.isnan(scores.values["b"][0])
    path.write_text("case,mass,probability_mass\na,1,0.9\n")
    assert read_scores(path).truth == {"a": (1,)}


@pytest.mark.parametrize(
    ("text", "match"), [("case,x\n", "expected columns case"), ("case,dice_a\nb,much\n", "no number")]
)
def test_a_table_of_something_else_is_wrong_input(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "per_case.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        read_scores(tmp_path / "per_case.csv")
