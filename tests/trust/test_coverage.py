"""The bound holds in as many cases as it says, over 200 cohorts; of a shifted cohort more cases are reviewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.trust.cohorts import COHORTS, calibrate, draw_linear, observe
from voxflow.inference import Failures
from voxflow.inference.worklist import write_worklist
from voxflow.trust import DicePredictor, Reviewer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.trust.cohorts import Pairs

SEEDS, NEW = 200, 100


def measure_coverage(draw: Callable[[np.random.Generator, int], Pairs], count: int, confidence: float) -> float:
    """The share of new cases whose Dice is at least their bound, over all seeds."""
    held = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        reviewer = Reviewer(0.0, confidence, calibrate(observe(*draw(rng, count))))
        for agreement, dice in zip(*draw(rng, NEW), strict=True):
            bound = reviewer.assess(float(agreement), {}, is_empty=False).bound
            assert bound is not None
            held.append(dice >= bound - 1e-6)
    return float(np.mean(held))


@pytest.mark.parametrize("draw", COHORTS)
@pytest.mark.parametrize(("count", "confidence"), [(19, 0.9), (60, 0.9), (90, 0.8), (90, 0.95)])
def test_coverage_is_within_two_percent_of_nominal(
    draw: Callable[[np.random.Generator, int], Pairs], count: int, confidence: float
) -> None:
    assert measure_coverage(draw, count, confidence) == pytest.approx(confidence, abs=0.02)


def test_few_patients_prove_less_and_it_says_so() -> None:
    rng = np.random.default_rng(0)
    reviewer = Reviewer(0.5, 0.9, calibrate(observe(*draw_linear(rng, 4))))
    assert reviewer.assess(0.9, {}, is_empty=False).level == pytest.approx(0.8)
    assert "4 patients" in reviewer.describe()
    assert "too few for 90%: it holds for 80% of such cases" in reviewer.describe()
    assert measure_coverage(draw_linear, 4, 0.9) == pytest.approx(0.8, abs=0.02)


def test_leaving_each_case_out_agrees_with_new_cases() -> None:
    agreements, dices = draw_linear(np.random.default_rng(1), 600)
    assert DicePredictor.fit(agreements, dices).measure_coverage(0.9) == pytest.approx(0.9, abs=0.02)


def test_more_agreement_gives_a_higher_bound() -> None:
    reviewer = Reviewer(0.5, 0.9, calibrate(observe(*draw_linear(np.random.default_rng(2), 200))))
    bounds = [reviewer.assess(agreement, {}, is_empty=False).bound or 0 for agreement in (0.6, 0.8, 0.95)]
    assert bounds == sorted(set(bounds))


def test_a_shifted_cohort_is_reviewed_more_and_the_page_says_why(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    agreements, dices = draw_linear(rng, 120)
    spacing = rng.uniform(2, 3, 120)
    reviewer = Reviewer(
        0.4, 0.9, calibrate(observe(agreements, dices, spacing_k_mm=spacing, percentile_99=spacing * 100))
    )
    shares, pages = [], []
    # The second scanner's slices are three times as thick; the model agrees with itself as before.
    for factor in (1, 3):
        new = rng.uniform(2, 3, 80) * factor
        trusts = {
            f"c{n}": reviewer.assess(a, {"spacing_k_mm": s, "percentile_99": 250.0}, is_empty=False)
            for n, (a, s) in enumerate(zip(draw_linear(rng, 80)[0], new, strict=True))
        }
        rows = {case: {"mask": f"{case}/{case}.nii.gz"} for case in trusts}
        shares.append(write_worklist(tmp_path, trusts, rows, reviewer, Failures()) / len(trusts))
        pages.append((tmp_path / "review.html").read_text(encoding="utf-8"))
    assert shares[0] < 0.4
    assert shares[1] == 1
    assert "spacing_k_mm is unusual" not in pages[0]
    assert "spacing_k_mm is unusual in 80 of 80" in pages[1]
    assert "percentile_99 is" not in pages[1]


def test_like_cases_are_seldom_taken_for_unlike_ones() -> None:
    flagged = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        features = {
            name: np.exp(rng.normal(0, 0.2, 20)) for name in ("spacing_k_mm", "extent_i_mm", "deviation", "a_ml")
        }
        calibration = calibrate(observe(*draw_linear(rng, 20), **features))
        new = {name: float(np.exp(rng.normal(0, 0.2))) for name in features}
        flagged.append(bool(calibration.find_unusual(new)))
    assert np.mean(flagged) < 0.03
