"""Decides between candidates by the Dice of held-out cases: the default stays unless another one is better for sure.

Each case was held out once by every candidate, so that the comparison is paired (:mod:`voxflow.evaluation`). What one
training's seed does to all cases of its fold is no gain either: two trainings of one configuration differ, too. So the
error of a difference also has the noise of two seeds a fold.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from voxflow.evaluation import LEAST_CASES, LEVEL, judge_gains
from voxflow.planning import SEED_NOISE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.evaluation import PairedGain


class CandidateScore(BaseModel):
    """A candidate's Dice, and how it differs from the default's.

    Attributes:
        name: of the candidate.
        dice: mean over all cases.
        by_fold: mean over the cases of each fold.
        cases: that both it and the default have a Dice of.
        gain: mean difference from the default; 0 for the default itself.
        standard_error: of the gain, the noise of the seeds included.
        p: probability of as large a gain where there is none (one-sided).
        is_better: the gain is beyond the noise, for all candidates together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dice: float
    by_fold: tuple[float, ...]
    cases: int
    gain: float = 0.0
    standard_error: float = 0.0
    p: float = 1.0
    is_better: bool = False


class Decision(BaseModel):
    """What was chosen.

    Attributes:
        chosen: name of the candidate.
        reason: one sentence.
        level: probability that any candidate is chosen where none is better.
        candidates: the default first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: str
    reason: str
    level: float = LEVEL
    candidates: tuple[CandidateScore, ...]


def decide(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Decision:
    """Choose a candidate.

    Args:
        scores: by candidate, the default first; of each fold the mean Dice of its held-out cases by their names, NaN
            where none is defined.

    Example:
        >>> default = [{f"{fold}{n}": 0.80 + n / 100 for n in range(10)} for fold in "ab"]
        >>> better = [{case: dice + 0.05 for case, dice in fold.items()} for fold in default]
        >>> decide({"full": default, "2d": better}).chosen
        '2d'
        >>> decide({"full": default, "2d": default}).reason
        'full stays: the gain of 2d is 0.0000, within the noise'
    """
    default, *others = scores
    folds = len(scores[default])
    pairs = {name: _pair_cases(scores[default], scores[name]) for name in others}
    gains = judge_gains(pairs, shared_error=SEED_NOISE * sqrt(2 / folds))
    candidates = [_describe(default, scores[default], None)]
    candidates += [_describe(name, scores[name], gains[name]) for name in others]
    better = [candidate for candidate in candidates if candidate.is_better]
    chosen = max(better, key=lambda candidate: candidate.gain, default=candidates[0])
    return Decision(chosen=chosen.name, reason=_explain(chosen, candidates), candidates=tuple(candidates))


def _pair_cases(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """The Dice of each case in both, (case, 2); cases without a defined one are left out."""
    values = [(dice, other[case]) for fold, other in zip(first, second, strict=True) for case, dice in fold.items()]
    pairs = np.array(values, dtype=np.float64).reshape(-1, 2)
    return pairs[~np.isnan(pairs).any(1)]


def _describe(name: str, folds: Sequence[Mapping[str, float]], gain: PairedGain | None) -> CandidateScore:
    means = tuple(round(_average(fold.values()), 4) for fold in folds)
    dice = round(_average(value for fold in folds for value in fold.values()), 4)
    count = sum(not np.isnan(value) for fold in folds for value in fold.values())
    if gain is None:
        return CandidateScore(name=name, dice=dice, by_fold=means, cases=count)
    return CandidateScore(
        name=name,
        dice=dice,
        by_fold=means,
        cases=gain.cases,
        gain=round(gain.after - gain.before, 4),
        standard_error=round(gain.standard_error, 5),
        p=float(f"{gain.p:.3g}"),
        is_better=gain.is_gain,
    )


def _average(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _explain(chosen: CandidateScore, candidates: Sequence[CandidateScore]) -> str:
    default, *others = candidates
    if chosen.name != default.name:
        return f"{chosen.name} is better than {default.name} by {chosen.gain:.4f} (p = {chosen.p:.2g})"
    best = max(others, key=lambda candidate: candidate.gain)
    if best.cases < LEAST_CASES:
        return f"{default.name} stays: {best.cases} cases can't tell, {LEAST_CASES} are needed"
    within = "within the noise" if best.gain >= 0 else "a loss"
    return f"{default.name} stays: the gain of {best.name} is {best.gain:.4f}, {within}"
