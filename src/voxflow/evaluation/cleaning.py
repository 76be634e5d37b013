"""Chooses how masks are cleaned by what it does to masks of a cross-validation, each of an image unseen in training.

Each way of cleaning is tried on each class alone. One is chosen where a paired t-test over the cases finds that the
class's Dice grows. The trials share one level: of many that change nothing but noise, some would look like a gain.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.evaluation.paired_gain import judge_gains
from voxflow.prediction import CleaningOptions, clean_mask, select_values
from voxflow.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

STEPS = ("largest_component", "fill_holes")


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
    return judge_trials({key: np.array(pairs) for key, pairs in scores.items() if pairs})


def judge_trials(scores: Mapping[tuple[str, str], NDArray[np.float64]]) -> list[CleaningTrial]:
    """Choose the trials that gain beyond the noise.

    Args:
        scores: of each class and step the Dice of its cases, without and with cleaning: (case, 2).
    """
    return [
        CleaningTrial(name, step, gain.cases, gain.before, gain.after, gain.standard_error, gain.is_gain)
        for (name, step), gain in judge_gains(scores).items()
    ]


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


def _compute_dice(mask: Volume, label: Volume, values: Sequence[int], ignore: int | None) -> float | None:
    """Dice of a class; None where neither has it."""
    predicted, true = (select_values(volume.array, values) for volume in (mask, label))
    if ignore is not None:
        predicted = predicted & (label.array != ignore)
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else None
