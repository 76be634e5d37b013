"""Ways of cleaning are chosen where they gain beyond the noise, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from voxflow.evaluation import choose_cleaning, try_cleaning
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
