"""Chooses how masks are cleaned by what it does to masks of a cross-validation, each of an image unseen in training.

Each way of cleaning is tried on each class alone. One is chosen where the mean Dice of the class grows by more than
twice the standard error of its change over the cases: a gain within the noise is none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.prediction import CleaningOptions, clean_mask, select_values
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STEPS = ("largest_component", "fill_holes")
LEAST_CASES, ERRORS = 5, 2.0


@dataclass(frozen=True)
class CleaningTrial:
    """One way of cleaning one class.

    Attributes:
        name: the class.
        step: an option of ``clean``.
        cases: that have the class in mask or label.
        dice, cleaned_dice: means over these cases.
        standard_error: of the mean change.
        is_chosen: the change is a gain beyond the noise.
    """

    name: str
    step: str
    cases: int
    dice: float
    cleaned_dice: float
    standard_error: float
    is_chosen: bool


def try_cleaning(
    cases: Iterable[tuple[Volume, Volume, int | None]], classes: Mapping[str, Sequence[int]]
) -> list[CleaningTrial]:
    """Try every way of cleaning on every class.

    Args:
        cases: of each a mask that was not cleaned, its label on the same grid, and the label's value of voxels that
            nobody labelled.
        classes: the label values of each class.
    """
    scores: dict[tuple[str, str], list[tuple[float, float]]] = {(name, step): [] for name in classes for step in STEPS}
    for mask, label, ignore in cases:
        for name, values in classes.items():
            before = _compute_dice(mask, label, values, ignore)
            for step in STEPS if before is not None else ():
                cleaned = Volume(mask.array.copy(), mask.geometry)
                clean_mask(cleaned, classes, CleaningOptions.model_validate({step: (name,)}))
                after = _compute_dice(cleaned, label, values, ignore)
                scores[name, step].append((before or 0.0, after or 0.0))
    return [_judge(name, step, np.array(pairs)) for (name, step), pairs in scores.items() if pairs]


def choose_cleaning(trials: Iterable[CleaningTrial]) -> CleaningOptions:
    """The options of the ways that are a gain."""
    chosen: dict[str, Any] = dict.fromkeys(STEPS, ())
    for trial in trials:
        if trial.is_chosen:
            chosen[trial.step] += (trial.name,)
    return CleaningOptions.model_validate(chosen)


def describe_trials(trials: Iterable[CleaningTrial]) -> list[dict[str, Any]]:
    """Rows for a table."""
    return [asdict(trial) for trial in trials]


def _judge(name: str, step: str, pairs: np.ndarray[Any, Any]) -> CleaningTrial:
    changes = pairs[:, 1] - pairs[:, 0]
    error = float(changes.std(ddof=1) / sqrt(len(changes))) if len(changes) > 1 else float("inf")
    is_gain = len(changes) >= LEAST_CASES and float(changes.mean()) > ERRORS * error and bool(changes.any())
    before, after = (float(value) for value in pairs.mean(0))
    return CleaningTrial(name, step, len(changes), before, after, error, is_gain)


def _compute_dice(mask: Volume, label: Volume, values: Sequence[int], ignore: int | None) -> float | None:
    """Dice of a class; None where neither has it."""
    predicted, true = (select_values(volume.array, values) for volume in (mask, label))
    if ignore is not None:
        predicted = predicted & (label.array != ignore)
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else None
