"""Owns the gate: an exported engine is the model that it came from, on real cases, or it is not published."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.errors import ParityError
from voxflow.inference import labels_of, plan_of, probabilities_of
from voxflow.inference.predict import PredictOptions
from voxflow.inference.windows import slabs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.export.options import ExportOptions
    from voxflow.inference import Engine
    from voxflow.spec import ModelSpec


@dataclass(frozen=True)
class Parity:
    """How far one engine is from torch, the worst of all cases.

    Attributes:
        engine: its name.
        max_logit_difference: greatest absolute difference of a logit.
        max_probability_difference: greatest absolute difference of a probability.
        min_dice: least Dice between both masks, of any class (both empty: 1); classification: least share of
            findings on which both agree.
        seconds: for all cases, network alone.
        torch_seconds: what torch took for the same.
    """

    engine: str
    max_logit_difference: float
    max_probability_difference: float
    min_dice: float
    seconds: float
    torch_seconds: float

    def faults(self, options: ExportOptions) -> str:
        """What lies outside the bounds, in words; empty when nothing does."""
        found = []
        if not self.max_probability_difference <= options.max_abs_difference:
            found.append(
                f"a probability differs by {self.max_probability_difference:.3g}, "
                f"allowed {options.max_abs_difference:g} (max_abs_difference)"
            )
        if not self.min_dice >= options.min_dice:
            found.append(f"masks agree to a Dice of {self.min_dice:.5f}, needed {options.min_dice:g} (min_dice)")
        return " and ".join(found)


@dataclass(frozen=True)
class ParityReport:
    """What came of an export.

    Attributes:
        measured: one entry an engine that was made.
        refused: engine → why its file was removed.
        left_out: engine → why it could not be made here.
        cases: how many cases were compared.
    """

    measured: tuple[Parity, ...]
    refused: dict[str, str]
    left_out: dict[str, str]
    cases: int

    def metrics(self) -> dict[str, Any]:
        """Numbers for parity.json, one block an engine."""
        blocks: dict[str, Any] = {"cases": self.cases}
        for each in self.measured:
            blocks[each.engine] = {
                "max_logit_difference": float(f"{each.max_logit_difference:.4g}"),
                "max_probability_difference": float(f"{each.max_probability_difference:.4g}"),
                "min_dice": round(each.min_dice, 6),
                "speedup_over_torch": round(each.torch_seconds / max(each.seconds, 1e-9), 2),
                "published": int(each.engine not in self.refused),
            }
        return blocks

    def require(self) -> None:
        """Raise ParityError, naming every engine that was refused and why; pass when none was."""
        if self.refused:
            raise ParityError("not published: " + "; ".join(f"{name}: {why}" for name, why in self.refused.items()))


def measure(engine: Engine, torch_engine: Engine, images: Sequence[NDArray[np.float32]]) -> Parity:
    """Compare an engine with torch.

    Args:
        engine: what was exported.
        torch_engine: the model that it came from.
        images: prepared inputs, (channel, i, j, k) or (channel, rows, columns).
    """
    spec = torch_engine.spec
    differences, dices, seconds = [(0.0, 0.0)], [1.0], np.zeros(2)
    for image in images:
        # The first answer of an engine pays for its set-up, so that only the second is timed.
        received, expected = (_logits(each, image, engine) for each in (engine, torch_engine))
        seconds += [_timed(each, image, engine) for each in (engine, torch_engine)]
        chances = np.abs(probabilities_of(received, spec) - probabilities_of(expected, spec)).max()
        differences.append((_worst(np.abs(received - expected).max()), _worst(chances)))
        dices.append(_agreement(received, expected, spec))
    logit, chance = (max(column) for column in zip(*differences, strict=True))
    return Parity(engine.name, logit, chance, min(dices), float(seconds[0]), float(seconds[1]))


def _logits(engine: Engine, image: NDArray[np.float32], planned_for: Engine) -> NDArray[np.float32]:
    """Logits (class, ...) of one image, both engines by the plan of the one that is tested."""
    if engine.spec.task == "classification":
        return np.asarray(engine.run(image[None])[0])
    plan = plan_of(image, planned_for, PredictOptions())
    return np.concatenate([logits for _, logits in slabs(engine, image, plan)], axis=1)


def _timed(engine: Engine, image: NDArray[np.float32], planned_for: Engine) -> float:
    began = time.perf_counter()
    _logits(engine, image, planned_for)
    return time.perf_counter() - began


def _worst(value: np.floating[Any]) -> float:
    """NaN counts as infinitely far, so that no comparison lets it pass."""
    return float(value) if np.isfinite(value) else float("inf")


def _agreement(received: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> float:
    if spec.task == "classification":
        if spec.activation == "softmax":
            return float(received.argmax() == expected.argmax())
        return float(((received > 0) == (expected > 0)).mean())
    masks = labels_of(received, spec), labels_of(expected, spec)
    dices = [1.0]
    for value in np.union1d(*(np.unique(mask) for mask in masks)):
        first, second = (mask == value for mask in masks)
        dices.append(float(2 * (first & second).sum() / (first.sum() + second.sum())))
    return min(dices)
