"""Synthetic cohorts: pairs of agreement and Dice as a model would have them, without any image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.trust import (
    Calibration,
    HeldOutRadiograph,
    Observation,
    RadiographCalibration,
    build_calibration,
    build_radiograph_calibration,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Pairs = tuple[Any, Any]  # arrays of agreements and of Dice

MODELS = ({"model.onnx": "1f"},)
SETTINGS = {"plan": "auto", "flips": []}


def draw_linear(rng: np.random.Generator, count: int) -> Pairs:
    """Dice rises with agreement, with noise that grows where the agreement is low."""
    agreement = rng.beta(12, 2, count)
    return agreement, np.clip(1.3 * agreement - 0.35 + rng.normal(0, 0.25 * (1.05 - agreement)), 0, 1)


def draw_unrelated(rng: np.random.Generator, count: int) -> Pairs:
    """A model that agrees with itself whatever its mask is worth."""
    return rng.uniform(0.97, 1, count), rng.beta(5, 2, count)


def draw_skewed(rng: np.random.Generator, count: int) -> Pairs:
    """Mostly good masks, and one in ten that missed the organ."""
    agreement = rng.beta(8, 1, count)
    good = agreement - rng.uniform(0, 0.02, count)
    return agreement, np.where(rng.uniform(size=count) < 0.1, rng.uniform(0, 0.2, count), good)


COHORTS: Sequence[Callable[[np.random.Generator, int], Pairs]] = (draw_linear, draw_unrelated, draw_skewed)


def observe(agreements: Any, dices: Any, **features: Any) -> list[Observation]:
    """Cases of as many patients."""
    return [
        Observation(f"p{n:04d}_1", float(a), float(d), False, {name: float(v[n]) for name, v in features.items()})
        for n, (a, d) in enumerate(zip(agreements, dices, strict=True))
    ]


def calibrate(observations: Sequence[Observation]) -> Calibration:
    """The calibration of one model with these cases."""
    return build_calibration(observations, signal="mirrors", models=MODELS, settings=SETTINGS, part="testing")


def calibrate_radiographs(names: Sequence[str], models: Sequence[dict[str, str]]) -> RadiographCalibration:
    """The calibration of a classifier that is sure, and right of three in four of 40 radiographs."""
    radiographs = []
    for number in range(40):
        probability, is_right = (0.98 if number < 20 else 0.02), number % 4 > 0
        truth = int(is_right == (probability > 0.5))
        values = (truth,) * len(names), (probability,) * len(names)
        radiographs.append(HeldOutRadiograph(f"c{number:02}", f"p{number:02}", 0, *values))
    return build_radiograph_calibration(radiographs, names, models=models, settings={"flips": []}, part="validation")
