"""Tells how much the seed of a training alone changes its score, beside a comparison of two models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.tracking import find_repeats

if TYPE_CHECKING:
    from voxflow.comparing.sides import Side

CONFIDENCE = 0.95
KEY_METRICS = {"segmentation": "test/mean_dice", "classification": "test/mean_auc"}  # as MLflow names them, by task


@dataclass(frozen=True)
class SeedNoise:
    """How far trainings lie apart that differ in nothing but their seed.

    Attributes:
        deviation: standard deviation of the key metric from seed to seed, pooled over both models.
        trainings: number of trainings of the old and of the new model, each with another seed.
        bound: of 100 pairs of such trainings, 95 differ by less.
    """

    deviation: float
    trainings: tuple[int, int]
    bound: float


def measure_seed_noise(old: Side, new: Side) -> SeedNoise | None:
    """Measure the noise from the trainings that MLflow knows.

    Args:
        old: the model to compare with; a folder has no trainings beside it.
        new: the model in question.

    Returns:
        None where neither model was trained and evaluated with two seeds or more.
    """
    from scipy import stats

    first, second = (
        find_repeats(side.run, KEY_METRICS[side.scores.task], side.runs) if side.run else {} for side in (old, new)
    )
    if old.run and new.run and new.run.has_same_recipe(old.run):
        first = {}  # both are trainings of one kind, and all of these are in the other group
    groups = [np.array(list(scores.values())) for scores in (first, second)]
    freedom = sum(max(0, len(scores) - 1) for scores in groups)
    if not freedom:
        return None
    squares = sum(((scores - scores.mean()) ** 2).sum() for scores in groups if len(scores))
    deviation = float(np.sqrt(squares / freedom))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return SeedNoise(deviation, (len(groups[0]), len(groups[1])), quantile * deviation * 2**0.5)


def word_seed_noise(noise: SeedNoise | None, gain: float) -> str:
    """Say in a sentence or two whether another seed alone may make a change as large.

    Example:
        >>> word_seed_noise(SeedNoise(0.002, (2, 3), 0.0078), 0.004)
        'Trainings that differ only in their seed have a standard deviation of 0.0020 (2 + 3 trainings). Of 100 pairs \
of such trainings, 95 differ by less than 0.0078: the change of +0.0040 may be chance.'
    """
    if noise is None:
        return (
            "How much another seed alone would change the score is not known. "
            "To know it, train the same workspace again with another train.seed."
        )
    old, new = noise.trainings
    counted = f"{old} + {new}" if old and new else str(old + new)
    verdict = "may be chance" if abs(gain) <= noise.bound else "is larger"
    return (
        f"Trainings that differ only in their seed have a standard deviation of {noise.deviation:.4f} ({counted} "
        f"trainings). Of 100 pairs of such trainings, {100 * CONFIDENCE:.0f} differ by less than {noise.bound:.4f}: "
        f"the change of {gain:+.4f} {verdict}."
    )
