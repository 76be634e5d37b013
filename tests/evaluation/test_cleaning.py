"""Ways of cleaning are chosen where they gain beyond the noise, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from voxflow.evaluation import choose_cleaning, try_cleaning
from voxflow.evaluation.cleaning import judge_trials
from voxflow.geometry import Geometry
from voxflow.volumes import Volume

GRID = Geometry.from_parts((16, 16, 8), (1, 1, 1))
CLASSES = {"organ": (1,), "tumour": (2,)}
Case = tuple[Volume, Volume, int | None]


def make_case(islands: int = 0, hole: int = 0, ignore: int | None = None) -> Case:
    """A perfect mask of two organs, but for an island of organ and a hole in the tumour."""
    label = np.zeros(GRID.size, np.uint8)
    label[2:8, 2:8, 2:6], label[9:14, 9:14, 1:7] = 1, 2
    mask = label.copy()
    mask[0, : 2 * islands : 2, 0] = 1
    mask[10 : 10 + hole, 11, 3] = 0
    if ignore is not None:
        label[0, :, 0] = ignore
    return Volume(mask, GRID), Volume(label, GRID), ignore


def test_what_gains_in_every_case_is_chosen_for_its_class_alone() -> None:
    trials = try_cleaning([make_case(islands=1 + n % 3, hole=1 + n % 2) for n in range(6)], CLASSES)
    chosen = choose_cleaning(trials)
    assert (chosen.largest_component, chosen.fill_holes) == (("organ",), ("tumour",))
    by_key = {(trial.name, trial.step): trial for trial in trials}
    trial = by_key["organ", "largest_component"]
    assert trial.cleaned_dice == 1
    assert trial.dice == pytest.approx(np.mean([288 / (288 + 1 + n % 3) for n in range(6)]))
    assert by_key["tumour", "largest_component"].dice == by_key["tumour", "largest_component"].cleaned_dice


def test_gains_within_the_noise_or_of_few_cases_choose_nothing() -> None:
    one_in_six = [make_case(islands=int(n == 0)) for n in range(6)]
    assert choose_cleaning(try_cleaning(one_in_six, CLASSES)).does_nothing
    assert choose_cleaning(try_cleaning([make_case(islands=2)] * 4, CLASSES)).does_nothing


def test_twenty_trials_of_noise_alone_seldom_choose_any() -> None:
    rng = np.random.default_rng(0)
    repeats, any_chosen = 400, 0
    for _ in range(repeats):
        before = rng.uniform(0.7, 0.9, (20, 5))
        pairs = np.stack([before, before + rng.normal(0, 0.01, (20, 5))], 2)
        trials = judge_trials({(f"class {n}", "fill_holes"): pairs[n] for n in range(20)})
        any_chosen += any(trial.is_chosen for trial in trials)
    # 2.5 % of 400 are 10; twice the standard error, without regard to the number of trials, chose one in 272 of 400.
    assert any_chosen <= 20


def test_the_bound_of_one_trial_is_that_of_a_paired_t_test() -> None:
    changes = np.array([1, 2, 3, -1, 4]) / 100
    for shift, is_gain in ((0.003, False), (0.006, True)):
        pairs = np.stack([np.full(5, 0.8), 0.8 + changes + shift], 1)
        test = ttest_rel(pairs[:, 1], pairs[:, 0], alternative="greater")
        assert (test.pvalue < 0.025) == is_gain
        assert judge_trials({("organ", "fill_holes"): pairs})[0].is_chosen == is_gain


def test_a_class_of_two_parts_loses_by_its_largest_component() -> None:
    mask, label, _ = make_case()
    label.array[2:6, 12:15, 2:6] = 1
    mask.array[2:6, 12:15, 2:6] = 1
    trials = try_cleaning([(mask, label, None)] * 6, CLASSES)
    assert trials[0].cleaned_dice < trials[0].dice == 1
    assert choose_cleaning(trials).does_nothing


def test_voxels_that_nobody_labelled_do_not_count() -> None:
    trials = try_cleaning([make_case(islands=3, ignore=9)] * 6, CLASSES)
    assert trials[0].dice == 1
    assert choose_cleaning(trials).does_nothing
