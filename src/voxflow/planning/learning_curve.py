"""Fits how a training's error falls with cases and time, and carries it on to more of both.

The model is the usual one of learning curves: error = c + a cases^-alpha + b time^-beta, with a, b, c of 0 or more
(Hestness et al. 2017, arXiv:1712.00409). A few short trainings can't tell the exponents, so that no single fit is
believed: every pair of a grid is fitted by least squares, pairs are drawn as often as the measurements make them
likely, and each draw is fitted anew to measurements with noise added. The draws spread as widely as what is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EXPONENTS = tuple(np.geomspace(0.1, 2.0, 10).tolist())  # tried for cases and for time
DRAWS = 400
LEVEL = 0.9  # of the intervals
# Two trainings that differ in their seed alone, beside what the cases tell: an estimate.
SEED_NOISE = 0.005
BOOTSTRAPS = 200


@dataclass(frozen=True)
class ShortRun:
    """A short training's size and score.

    Attributes:
        cases: that it learnt from.
        minutes: that it took.
        dice: on the validation cases, mean over classes.
        by_case: the same of each validation case; NaN where none is defined.
    """

    cases: int
    minutes: float
    dice: float
    by_case: tuple[float, ...]


def measure_noise(runs: Sequence[ShortRun], rng: np.random.Generator) -> float:
    """Measure how much a run's mean Dice moves against the other runs' when other cases validate all of them.

    What moves all runs alike is left out: the same cases will judge the training that is forecast.

    Args:
        runs: validated on the same cases.
        rng: draws the cases (paired bootstrap).

    Returns:
        The standard deviation of one run, with the noise of its seed.
    """
    scores = np.ma.masked_invalid([run.by_case for run in runs])
    count = scores.shape[1]
    means = scores[:, rng.integers(count, size=(BOOTSTRAPS, count))].mean(2)
    shifts = means - scores.mean(1)[:, None]
    relative = np.ma.filled(shifts - shifts.mean(0), 0.0)
    # Both corrections are those of a sample's own mean: over the cases, and over the runs.
    variance = float(np.mean(relative**2)) * count / (count - 1) * len(runs) / (len(runs) - 1)
    return float(np.hypot(np.sqrt(variance), SEED_NOISE))


def draw_forecasts(
    runs: Sequence[ShortRun], targets: Sequence[tuple[float, float]], noise: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw what trainings of other sizes may score.

    Args:
        runs: what was measured.
        targets: cases and minutes of each training to forecast, the first in the unit that all are measured in.
        noise: standard deviation of a run's Dice; more is taken where no curve fits so well.
        rng: draws exponents and noise.

    Returns:
        Dice (draw, target), from 0 to 1. In each draw more cases and more minutes never score less.
    """
    from scipy.optimize import nnls

    unit = np.array(targets[0], dtype=float)
    sizes = np.array([(run.cases, run.minutes) for run in runs]) / unit
    error = 1 - np.array([run.dice for run in runs])
    grid = [(alpha, beta) for alpha in EXPONENTS for beta in EXPONENTS]
    designs = [_make_design(sizes, pair) for pair in grid]
    misfit = np.array([nnls(design, error)[1] for design in designs])
    # Runs that no curve comes near have more noise than their cases tell; a, b and c take three of their freedoms.
    noise = max(noise, misfit.min() / np.sqrt(max(1, len(runs) - 3)))
    likelihood = np.exp((misfit.min() ** 2 - misfit**2) / (2 * noise**2))
    chosen = rng.choice(len(grid), size=DRAWS, p=likelihood / likelihood.sum())
    noisy = error + noise * rng.standard_normal((DRAWS, len(runs)))
    wanted = np.array(targets) / unit
    forecasts = [_make_design(wanted, grid[k]) @ nnls(designs[k], y)[0] for k, y in zip(chosen, noisy, strict=True)]
    # The training itself will have its own noise, the same whatever its size.
    return np.clip(1 - np.array(forecasts) + noise * rng.standard_normal((DRAWS, 1)), 0, 1)


def _make_design(sizes: NDArray[Any], exponents: tuple[float, float]) -> NDArray[Any]:
    """The columns of c, a and b, a row a training."""
    return np.column_stack([np.ones(len(sizes)), sizes ** -np.array(exponents)])
