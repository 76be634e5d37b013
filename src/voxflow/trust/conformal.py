"""Predicts the Dice of a mask that nobody has checked, with a lower bound that holds (split conformal prediction).

A case's agreement is turned into an expected Dice by a line. How much lower the true Dice was, in cases that the model
did not learn from, says how far below the line the bound must lie. Where the new case comes from where these cases came
from, its Dice is below the bound in at most one minus the confidence of all such cases, whatever the network and the
line are like (Vovk, Gammerman and Shafer 2005; Lei et al. 2018). The line is fitted to cases that the bound is not
computed from; of few cases none can be spared, and the agreement itself is the expected Dice.
"""

from __future__ import annotations

import bisect
import math
import statistics
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

# From so many cases on, every third one fits the line, and the others calibrate.
FITTED_FROM = 30
FITTED_STEP = 3
ROUNDING = 1e-9


def choose_rank(count: int, confidence: float) -> tuple[int, float]:
    """Choose which of the sorted errors of calibration gives the bound: the (n + 1) confidence-th, rounded up.

    Args:
        count: errors that there are, n.
        confidence: the share of cases whose Dice is to be at least the bound, between 0 and 1.

    Returns:
        The rank, counted from 1, and the confidence that it proves. Of too few errors the largest is taken, and
        proves n / (n + 1) and no more.

    Example:
        >>> choose_rank(19, 0.9)
        (18, 0.9)
        >>> choose_rank(4, 0.9)
        (4, 0.8)
    """
    rank = math.ceil((count + 1) * confidence - ROUNDING)
    return (rank, confidence) if rank <= count else (count, count / (count + 1))


@dataclass(frozen=True)
class DicePredictor:
    """Predicts a case's Dice from its agreement.

    Attributes:
        slope, intercept: of the line of the expected Dice.
        errors: expected less true Dice of the cases of calibration, ascending.
    """

    slope: float
    intercept: float
    errors: tuple[float, ...]

    @classmethod
    def fit(cls, agreements: Sequence[float], dices: Sequence[float]) -> Self:
        """Calibrate with cases whose Dice is known.

        Args:
            agreements: one a case.
            dices: of the same cases; their order must not depend on the values.

        Example:
            >>> predictor = DicePredictor.fit([0.9] * 9, [0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.87, 0.7])
            >>> round(predictor.bound(0.95, 0.9), 3), round(predictor.estimate(0.95), 3)
            (0.75, 0.88)
        """
        pairs = list(zip(agreements, dices, strict=True))
        slope, intercept = 1.0, 0.0
        if len(pairs) >= FITTED_FROM:
            slope, intercept = _fit_line(pairs[::FITTED_STEP])
            pairs = [pair for number, pair in enumerate(pairs) if number % FITTED_STEP]
        return cls(slope, intercept, tuple(sorted(intercept + slope * a - dice for a, dice in pairs)))

    def level(self, confidence: float) -> float:
        """Tell the confidence that the bound proves: the one asked for, or less where the cases are too few."""
        return choose_rank(len(self.errors), confidence)[1]

    def bound(self, agreement: float, confidence: float) -> float:
        """Return the Dice that a case reaches at least, with a confidence; 0 where there is no case to tell from."""
        rank, _ = choose_rank(len(self.errors), confidence)
        return _clip(self._expect(agreement) - self.errors[rank - 1]) if rank else 0.0

    def estimate(self, agreement: float) -> float | None:
        """Return the Dice that a case reaches as often as not; None where there is no case to tell from."""
        return _clip(self._expect(agreement) - statistics.median(self.errors)) if self.errors else None

    def measure_coverage(self, confidence: float) -> float:
        """Measure the share of the cases of calibration whose Dice is at least the bound that the others give."""
        if len(self.errors) < 2:
            return math.nan
        covered = 0
        for number, error in enumerate(self.errors):
            remaining = self.errors[:number] + self.errors[number + 1 :]
            rank, _ = choose_rank(len(remaining), confidence)
            covered += error <= remaining[max(1, rank) - 1] + ROUNDING
        return covered / len(self.errors)

    def _expect(self, agreement: float) -> float:
        return self.intercept + self.slope * agreement


def trace_risk(agreements: Sequence[float], dices: Sequence[float]) -> list[tuple[float, float]]:
    """Trace the mean Dice of the cases that are kept, from those of the highest agreement to all.

    Returns:
        The share of the cases that are kept, and one minus their mean Dice. Cases of equal agreement are kept together,
        since nothing tells them apart.

    Example:
        >>> trace_risk([0.9, 0.5], [0.8, 0.4])
        [(0.5, 0.19999999999999996), (1.0, 0.3999999999999999)]
    """
    ordered = sorted(zip(agreements, dices, strict=True), key=lambda pair: -pair[0])
    curve: list[tuple[float, float]] = []
    count, total = 0, 0.0
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        same = [dice for _, dice in group]
        count, total = count + len(same), total + sum(same)
        curve.append((count / len(ordered), 1 - total / count))
    return curve


def count_below(values: Sequence[float], limit: float) -> int:
    """Count the values below a limit.

    Example:
        >>> count_below([0.3, 0.8, 0.7], 0.8)
        2
    """
    return bisect.bisect_left(sorted(values), limit)


def _fit_line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of least squares; flat where more agreement does not mean more Dice."""
    agreements, dices = zip(*pairs, strict=True)
    middle = statistics.fmean(dices)
    if len(set(agreements)) < 2:
        return 0.0, middle
    slope = max(0.0, statistics.linear_regression(agreements, dices).slope)
    return slope, middle - slope * statistics.fmean(agreements)


def _clip(dice: float) -> float:
    return min(1.0, max(0.0, dice))
