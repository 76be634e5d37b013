"""A classifier's calibration: equal to scikit-learn's, weaker for few cases; its label sets are as often right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from voxflow.errors import DataError
from voxflow.trust import (
    LEAST_OF_EACH,
    HeldOutRadiograph,
    RadiographCalibration,
    RadiographReviewer,
    build_radiograph_calibration,
    cross_fit,
    fit_platt,
    probabilities_to_logits,
    read_any_calibration,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Cohort = tuple[NDArray[Any], NDArray[Any]]  # logits (case, model), truth (case,)

SEEDS, NEW = 200, 100


def draw_cohort(
    rng: np.random.Generator, count: int, *, models: int = 1, too_certain: float = 2.0, share: float = 0.4
) -> Cohort:
    """Logits that are too certain, and of several models that differ."""
    truth = (rng.random(count) < share).astype(int)
    score = rng.normal(np.where(truth, 0.9, -0.9), 1)
    own = score[:, None] + (0.4 * rng.normal(size=(count, models)) if models > 1 else np.zeros((count, 1)))
    return too_certain * (1.8 * own + np.log(share / (1 - share))), truth


def hold_out(logits: NDArray[Any], truth: NDArray[Any], names: int = 1) -> list[HeldOutRadiograph]:
    """Each radiograph as one of the models saw it, of as many patients; all findings are alike."""
    models = logits.shape[1]
    probabilities = 1 / (1 + np.exp(-logits))
    return [
        HeldOutRadiograph(
            f"c{n:04}", f"p{n:04}", n % models, (int(truth[n]),) * names, (float(probabilities[n, n % models]),) * names
        )
        for n in range(len(truth))
    ]


def calibrate(radiographs: list[HeldOutRadiograph], models: int = 1) -> RadiographCalibration:
    files = [{"model.onnx": f"{n}f"} for n in range(models)]
    return build_radiograph_calibration(radiographs, ["mass"], models=files, settings={"flips": []}, part="held out")


def test_without_a_prior_it_is_the_logistic_regression_of_scikit_learn() -> None:
    logits, truth = draw_cohort(np.random.default_rng(0), 300)
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(logits, truth)
    platt = fit_platt(logits[:, 0], truth, slope_deviation=1e4, intercept_deviation=1e4)
    assert platt.slope == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert platt.intercept == pytest.approx(reference.intercept_[0], abs=1e-3)
    assert platt.apply(logits[:, 0]) == pytest.approx(reference.predict_proba(logits)[:, 1], abs=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_the_slope_stays_above_0_and_the_order_as_it_was(turned: bool) -> None:
    logits, truth = draw_cohort(np.random.default_rng(1), 60)
    truth = 1 - truth if turned else truth
    platt = fit_platt(logits[:, 0], truth)
    assert platt.slope > 0
    assert roc_auc_score(truth, platt.apply(logits[:, 0])) == roc_auc_score(truth, logits[:, 0])


def test_few_radiographs_change_little() -> None:
    logits, truth = draw_cohort(np.random.default_rng(2), 4000, too_certain=4)
    slopes = [fit_platt(logits[:count, 0], truth[:count]).slope for count in (0, 6, 4000)]
    assert slopes[0] == 1
    assert slopes == sorted(slopes, reverse=True)
    assert slopes[2] == pytest.approx(1 / 4, rel=0.1)


def test_a_shift_of_the_positive_weights_is_taken_back() -> None:
    logits, truth = draw_cohort(np.random.default_rng(3), 4000, too_certain=1, share=0.1)
    platt = fit_platt(logits[:, 0] + np.log(3), truth)
    assert platt.intercept == pytest.approx(-np.log(3), abs=0.2)
    assert platt.apply(logits[:, 0] + np.log(3)).mean() == pytest.approx(truth.mean(), abs=0.005)


def test_too_few_of_a_kind_are_not_corrected_and_it_says_so() -> None:
    logits, truth = np.linspace(-3, 3, 40)[:, None], np.array([0] * 31 + [1] * 9)
    reviewer = RadiographReviewer(calibrate(hold_out(logits, truth)), (0,))
    assert LEAST_OF_EACH == 10
    assert reviewer.describe() == (
        "probabilities of no finding are calibrated; too few held-out patients for mass (9 with, 31 without)"
    )
    trust = reviewer.assess(np.array([[1.2]]))
    assert trust.probabilities == pytest.approx(trust.uncalibrated)
    assert trust.uncalibrated["mass"] == pytest.approx(1 / (1 + np.exp(-1.2)))


def test_a_patient_counts_once_with_a_finding_and_once_without() -> None:
    truths, patients = (1, 1, 0, 0, 1), ("anna", "anna", "anna", "bert", "cora")
    radiographs = [
        HeldOutRadiograph(f"c{n}", patient, 0, (truth,), (0.1 + n / 10,), is_learned=patient == "cora")
        for n, (truth, patient) in enumerate(zip(truths, patients, strict=True))
    ]
    calibration = calibrate(radiographs)
    finding = calibration.findings["mass"]
    assert finding.positives == ((round(float(probabilities_to_logits(0.1)), 6),),)
    assert finding.counts == (1, 2)
    assert calibration.left_out == {"the model learned from the case or its patient": 1}


@pytest.mark.parametrize(("models", "count"), [(1, 90), (5, 100)])
def test_cross_fitting_lowers_the_brier_score_of_radiographs_that_it_was_not_fitted_to(models: int, count: int) -> None:
    gains = []
    for seed in range(20):
        logits, truth = draw_cohort(np.random.default_rng(seed), count, models=models, too_certain=3)
        radiographs = hold_out(logits, truth)
        before = [radiograph.probabilities[0] for radiograph in radiographs]
        gains.append(brier_score_loss(truth, before) - brier_score_loss(truth, cross_fit(radiographs)[:, 0]))
    assert np.mean(gains) > 0.005


def test_no_radiograph_calibrates_itself() -> None:
    logits, truth = draw_cohort(np.random.default_rng(4), 60)
    radiographs = hold_out(logits, truth)
    changed = [*radiographs[:-1], HeldOutRadiograph("c0059", "p0059", 0, (1 - int(truth[-1]),), (0.999999,))]
    same = [n for n in range(60) if n % 5 == 59 % 5 and n != 59]  # of its fifth of the patients
    assert cross_fit(radiographs)[same].tolist() == cross_fit(changed)[same].tolist()
    assert (cross_fit(radiographs)[:59] != cross_fit(changed)[:59]).sum() == 59 - len(same)


def test_the_folds_are_calibrated_each_and_then_averaged_in_any_order() -> None:
    logits, truth = draw_cohort(np.random.default_rng(5), 100, models=2)
    calibration = calibrate(hold_out(logits, truth), models=2)
    assert calibration.match_models([{"model.onnx": "1f"}, {"model.onnx": "0f"}]) == (1, 0)
    trust = RadiographReviewer(calibration, (0, 1)).assess(np.array([[1.0], [-0.5]]))
    platt = calibration.findings["mass"].platt
    assert trust.probabilities["mass"] == pytest.approx(platt.apply([1.0, -0.5]).mean())
    assert trust.spread["mass"] == pytest.approx(np.ptp(platt.apply([1.0, -0.5])))
    assert RadiographReviewer(calibration, (1, 0)).assess(np.array([[-0.5], [1.0]])) == trust


def test_what_no_label_is_usual_for_is_reviewed() -> None:
    logits, truth = np.r_[np.linspace(-4, -2, 40), np.linspace(2, 4, 40)][:, None], np.repeat([0, 1], 40)
    reviewer = RadiographReviewer(calibrate(hold_out(logits, truth)), (0,))
    answers = {logit: reviewer.assess(np.array([[logit]])) for logit in (-3.0, 0.0, 3.0)}
    assert [trust.labels["mass"] for trust in answers.values()] == ["absent", "neither", "present"]
    assert [trust.verdict for trust in answers.values()] == ["send", "review", "send"]
    assert answers[0.0].as_row()["reasons"] == "mass: neither"


def test_answers_beyond_what_a_table_can_hold_keep_their_order() -> None:
    reviewer = RadiographReviewer(calibrate(hold_out(*draw_cohort(np.random.default_rng(6), 60))), (0,))
    less, more = (reviewer.assess(np.array([[logit]])) for logit in (15.0, 16.0))
    assert less.uncalibrated["mass"] == pytest.approx(1 / (1 + np.exp(-15.0)), rel=1e-12)
    assert less.probabilities["mass"] < more.probabilities["mass"]
    assert less.labels == more.labels


def measure_coverage(count: int, confidence: float, models: int) -> tuple[float, float]:
    """How often the label set of new radiographs holds their label, of those with the finding and of those without."""
    held: dict[int, list[bool]] = {0: [], 1: []}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        truth = np.repeat([0, 1], count)
        rng.shuffle(truth)
        score = np.where(truth, 0.9, -0.9) + rng.normal(size=2 * count)
        logits = 2 * (score[:, None] + (0.4 * rng.normal(size=(2 * count, models)) if models > 1 else 0))
        calibration = calibrate(hold_out(logits, truth), models=models)
        reviewer = RadiographReviewer(calibration, tuple(range(models)), confidence)
        new_logits, new_truth = draw_cohort(rng, NEW, models=models, share=0.5)
        for answer, label in zip(new_logits * 2 / 3.6, new_truth, strict=True):
            labels = reviewer.assess(answer[:, None]).labels["mass"]
            held[int(label)].append(labels in ("either", "present" if label else "absent"))
    return float(np.mean(held[1])), float(np.mean(held[0]))


@pytest.mark.parametrize(("count", "confidence"), [(19, 0.9), (60, 0.9), (90, 0.8), (90, 0.95)])
def test_label_sets_are_right_within_two_percent_of_nominal(count: int, confidence: float) -> None:
    assert measure_coverage(count, confidence, 1) == pytest.approx((confidence, confidence), abs=0.02)


@pytest.mark.parametrize(("count", "confidence"), [(19, 0.9), (90, 0.8), (90, 0.95)])
def test_label_sets_of_folds_are_right_somewhat_more_often(count: int, confidence: float) -> None:
    for share in measure_coverage(count, confidence, 5):
        assert confidence - 0.005 <= share <= confidence + 0.04


def test_too_few_for_the_confidence_leave_a_label_open() -> None:
    logits, truth = np.r_[np.linspace(-4, -2, 40), np.linspace(2, 4, 8)][:, None], np.repeat([0, 1], (40, 8))
    reviewer = RadiographReviewer(calibrate(hold_out(logits, truth)), (0,), 0.9)
    assert reviewer.assess(np.array([[-5.0]])).labels["mass"] == "either"
    assert reviewer.assess(np.array([[3.0]])).labels["mass"] == "present"


def test_the_file_names_nobody_and_another_is_refused(tmp_path: Path) -> None:
    calibration = calibrate(hold_out(*draw_cohort(np.random.default_rng(6), 60)))
    path = tmp_path / "trust.json"
    calibration.write(path)
    assert read_any_calibration(path) == calibration
    assert "p0001" not in path.read_text()
    path.write_text(path.read_text().replace('"slope": ', '"slope": -'))
    with pytest.raises(DataError, match="greater than 0"):
        read_any_calibration(path)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("mass",), ""), (("nodule",), "of other findings"), (("mass", "labels_mass"), "called as a column")],
)
def test_it_speaks_of_its_findings(names: tuple[str, ...], reason: str) -> None:
    reviewer = RadiographReviewer(calibrate(hold_out(*draw_cohort(np.random.default_rng(7), 60))), (0,))
    explanation = reviewer.explain_other_findings(names)
    assert reason in explanation
    assert bool(reason) == bool(explanation)
