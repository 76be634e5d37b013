"""Judges whether changes gain on cases that were scored without and with each: a paired t-test for all of them.

The changes share one level (Bonferroni's correction): of many that change nothing but noise, some would look like a
gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Key = TypeVar("Key")
LEAST_CASES = 5
LEVEL = 0.025  # probability that any is chosen where none is a gain: two standard errors of one trial of many cases


@dataclass(frozen=True)
class PairedGain:
    """What one change does.

    Attributes:
        cases: that were scored both ways.
        before, after: mean scores.
        standard_error: of the mean change.
        p: probability of as large a mean change where there is none (one-sided), of this change alone.
        is_gain: the change is a gain beyond the noise, at a level that all changes share.
    """

    cases: int
    before: float
    after: float
    standard_error: float
    p: float
    is_gain: bool


def judge_gains(pairs: Mapping[Key, NDArray[np.float64]], *, shared_error: float = 0.0) -> dict[Key, PairedGain]:
    """Judge changes together.

    Args:
        pairs: of each change the scores of its cases, without and with it: (case, 2).
        shared_error: standard error of a mean change that all cases of it share, such as that of a training's seed.

    Example:
        >>> import numpy as np
        >>> before = np.linspace(0.7, 0.9, 20)
        >>> judge_gains({"a": np.stack([before, before + 0.02], 1)})["a"].is_gain
        True
    """
    # Bonferroni's correction, over the changes that change a score at all: the others can't be chosen.
    changing = sum(bool((scores[:, 1] != scores[:, 0]).any()) for scores in pairs.values())
    return {key: _judge(scores, LEVEL / max(1, changing), shared_error) for key, scores in pairs.items()}


def _judge(scores: NDArray[np.float64], level: float, shared_error: float) -> PairedGain:
    from scipy.special import stdtr, stdtrit

    count = len(scores)
    if count == 0:
        return PairedGain(0, float("nan"), float("nan"), float("inf"), 1.0, is_gain=False)
    before, after = (float(value) for value in scores.mean(0))
    changes = scores[:, 1] - scores[:, 0]
    gain = float(changes.mean())
    error = float(changes.std(ddof=1) / sqrt(count)) if count > 1 else float("inf")
    error = hypot(error, shared_error) if shared_error else error
    is_gain = count >= LEAST_CASES and gain > float(stdtrit(count - 1, 1 - level)) * error
    p = float(stdtr(count - 1, -gain / error)) if count > 1 and error else float(gain <= 0)
    return PairedGain(count, before, after, error, p, is_gain=is_gain and bool(changes.any()))
