"""The parity gate: an exported engine is published only if it gives the same results as torch on real cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.engines import read_place
from voxflow.errors import ParityError
from voxflow.prediction import (
    PredictOptions,
    iterate_slabs,
    label_names,
    logits_to_labels,
    logits_to_probabilities,
    plan_image,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxflow.engines import Engine
    from voxflow.export.options import ExportOptions
    from voxflow.prediction import WindowPlan
    from voxflow.spec import ModelSpec

# A class of fewer voxels, in both masks, says nothing of an engine: a handful of them would decide its Dice.
LEAST_VOXELS = 1000
# A probability this near to the threshold is a coin toss, whatever the engine.
UNDECIDED = 0.01


@dataclass(frozen=True)
class Parity:
    """How far one engine is from torch, the worst of all cases.

    Attributes:
        engine: its name.
        max_logit_difference: greatest absolute difference of a logit.
        max_probability_difference: greatest absolute difference of a probability.
        min_dice: least Dice between both masks of a class, over all cases; classification: least share of findings
            on which both agree.
        seconds: for all cases, network alone.
        torch_seconds: what torch took for the same.
        compared_on: device, driver and versions of what computed, by :func:`voxflow.engines.read_place`.
    """

    engine: str
    max_logit_difference: float
    max_probability_difference: float
    min_dice: float
    seconds: float
    torch_seconds: float
    compared_on: dict[str, str] = field(default_factory=dict)

    def describe_faults(self, options: ExportOptions) -> str:
        """Say in words what lies outside the bounds; empty when nothing does.

        Example:
            >>> from voxflow.export import ExportOptions
            >>> parity = Parity("openvino", 0.4, 0.02, 1.0, seconds=1.0, torch_seconds=2.0)
            >>> parity.describe_faults(ExportOptions())
            'a probability differs by 0.02, allowed 0.01 (max_abs_difference)'
        """
        faults = []
        if not self.max_probability_difference <= options.max_abs_difference:
            faults.append(
                f"a probability differs by {self.max_probability_difference:.3g}, "
                f"allowed {options.max_abs_difference:g} (max_abs_difference)"
            )
        if not self.min_dice >= options.min_dice:
            faults.append(f"masks agree to a Dice of {self.min_dice:.5f}, needed {options.min_dice:g} (min_dice)")
        return " and ".join(faults)

    def describe_reduced_faults(self, options: ExportOptions) -> str:
        """Say in words what lies outside the bound on a model of less precision; empty when nothing does."""
        if self.min_dice >= options.reduced_min_dice:
            return ""
        return f"masks agree to a Dice of {self.min_dice:.5f}, needed {options.reduced_min_dice:g} (reduced_min_dice)"


@dataclass(frozen=True, eq=False)
class TimedLogits:
    """Logits (class, ...) of one image, and how many seconds they took."""

    logits: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True)
class ParityReport:
    """What came of an export.

    Attributes:
        measured: one entry an engine that was made.
        refused: engine → why its file was removed.
        left_out: engine → why it could not be made here.
        cases: how many cases were compared.
        withheld: model of less precision → why the one in float32 stands in its place.
        uncompared: engine that can't run here → why; it is there, and is compared at its first use, where it runs.
    """

    measured: tuple[Parity, ...]
    refused: dict[str, str]
    left_out: dict[str, str]
    cases: int
    withheld: dict[str, str] = field(default_factory=dict)
    uncompared: dict[str, str] = field(default_factory=dict)

    @property
    def published_engines(self) -> list[str]:
        """Names of the engines that are there and gave what torch gives."""
        return [parity.engine for parity in self.measured if parity.engine not in self.refused | self.withheld]

    def describe_uncompared(self) -> str:
        """Name the engines that are compared at their first use, as the end of a sentence."""
        return f"; {', '.join(self.uncompared)} compared at the first use" if self.uncompared else ""

    def describe_reduced(self) -> str:
        """Name the published models of less precision, near torch and not equal, as the end of a sentence."""
        reduced = [
            parity for parity in self.measured if "-" in parity.engine and parity.engine in self.published_engines
        ]
        return "".join(f", {parity.engine} to a Dice of {parity.min_dice:.4f}" for parity in reduced)

    def metrics(self) -> dict[str, Any]:
        """Return what parity.json holds: the number of cases, and one block of numbers an engine.

        Differences keep four digits, and times only their ratio, so that the file changes where the model does.
        """
        blocks: dict[str, Any] = {"cases": self.cases}
        for parity in self.measured:
            blocks[parity.engine] = {
                "max_logit_difference": float(f"{parity.max_logit_difference:.4g}"),
                "max_probability_difference": float(f"{parity.max_probability_difference:.4g}"),
                "min_dice": round(parity.min_dice, 6),
                "speedup_over_torch": round(parity.torch_seconds / max(parity.seconds, 1e-9), 2),
                "published": int(parity.engine in self.published_engines),
                **({"compared_on": parity.compared_on} if parity.compared_on else {}),
            }
        uncompared = self.uncompared.items()
        return blocks | {engine: {"published": 1, "compared": 0, "reason": reason} for engine, reason in uncompared}

    def require_published(self) -> None:
        """Pass when every engine was published.

        Raises:
            ParityError: one was refused; names every such engine, and why.
        """
        if self.refused:
            raise ParityError(
                "not published: " + "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
            )


class Reference:
    """What torch says of real images; its logits are computed once, whichever engines are compared with them.

    Args:
        engine: the model that was exported, run by torch.
        images: prepared inputs, (channel, i, j, k) or (channel, rows, columns).
    """

    def __init__(self, engine: Engine, images: Sequence[NDArray[np.float32]]) -> None:
        self.engine = engine
        self.images = images
        self._logits: dict[tuple[int, WindowPlan | None], TimedLogits] = {}

    def measure(self, engine: Engine, name: str = "") -> Parity:
        """Compare an engine with torch, see :func:`measure_parity`."""
        return measure_parity(engine, self, name)

    def compute_logits(self, index: int, plan: WindowPlan | None) -> TimedLogits:
        """Run torch on one image, by the plan that the tested engine uses.

        Args:
            index: of the image, from 0.
            plan: of windows; None: the image passes as a whole.
        """
        key = (index, plan)
        if key not in self._logits:
            self._logits[key] = _time_logits(self.engine, self.images[index], plan)
        return self._logits[key]


def measure_parity(engine: Engine, reference: Reference, name: str = "") -> Parity:
    """Compare an engine with torch on every image.

    Args:
        engine: the exported one.
        reference: torch, and the images.
        name: what the engine is called in the report; empty: its own name.
    """
    spec = reference.engine.spec
    differences, agreement, seconds = [(0.0, 0.0)], Agreement(spec), np.zeros(2)
    for index, image in enumerate(reference.images):
        plan = plan_image(image, engine, PredictOptions()) if spec.task == "segmentation" else None
        received, expected = _time_logits(engine, image, plan), reference.compute_logits(index, plan)
        seconds += received.seconds, expected.seconds
        probabilities = logits_to_probabilities(received.logits, spec) - logits_to_probabilities(expected.logits, spec)
        differences.append((largest_difference(received.logits - expected.logits), largest_difference(probabilities)))
        agreement.add(received.logits, expected.logits)
    logit, probability = (max(column) for column in zip(*differences, strict=True))
    times = float(seconds[0]), float(seconds[1])
    return Parity(name or engine.name, logit, probability, agreement.least(), *times, compared_on=read_place(engine))


def _time_logits(engine: Engine, image: NDArray[np.float32], plan: WindowPlan | None) -> TimedLogits:
    """Logits (class, ...) of one image and how long they took, once the engine is warm."""
    warm_up = image if plan is None else np.zeros((image.shape[0], *plan.window), dtype=np.float32)
    # The first answer of an engine pays for its set-up.
    engine.run(warm_up[None])
    start = time.perf_counter()
    if plan is None:
        logits = np.asarray(engine.run(image[None])[0])
    else:
        logits = np.empty((engine.spec.out_channels, *plan.size), dtype=np.float32)
        for box, part in iterate_slabs(engine, image, plan):
            logits[:, *box] = part
    return TimedLogits(logits, time.perf_counter() - start)


def largest_difference(differences: NDArray[np.float32]) -> float:
    """The greatest absolute value. NaN counts as infinitely far, so that no comparison lets it pass."""
    value = float(np.abs(differences).max())
    return value if np.isfinite(value) else float("inf")


class Agreement:
    """How far two engines' answers agree, over all images."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        classes = 1 + max([spec.out_channels, *label_names(spec)])
        self._both, self._either = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
        self._shares: list[float] = []

    def add(self, received: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Take in one image.

        Args:
            received: the engine's logits (class, ...).
            expected: torch's, of the same shape.
        """
        if self._spec.task == "classification":
            self._shares.append(_share_agreed(received, expected, self._spec))
            return
        if self._spec.regions:
            for number, (first, second) in enumerate(zip(received > 0, expected > 0, strict=True)):
                self._both[number] += int((first & second).sum())
                self._either[number] += int(first.sum()) + int(second.sum())
            return
        self.add_masks(logits_to_labels(received, self._spec), logits_to_labels(expected, self._spec))

    def add_masks(self, received: NDArray[Any], expected: NDArray[Any]) -> None:
        """Take in two masks of label values, of one shape."""
        first, second, classes = received.ravel(), expected.ravel(), len(self._both)
        self._both += np.bincount(first[first == second], minlength=classes)
        self._either += np.bincount(first, minlength=classes) + np.bincount(second, minlength=classes)

    def least(self) -> float:
        """Return the least Dice of a class, or share of findings, over all images; small classes don't count."""
        counted = self._either >= 2 * LEAST_VOXELS
        dices = 2 * self._both[counted] / self._either[counted]
        return float(min([1.0, *self._shares, *dices.tolist()]))


def _share_agreed(received: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> float:
    """The share of findings on which both agree, or where torch itself is undecided."""
    probabilities = logits_to_probabilities(expected, spec)
    if spec.activation == "softmax":
        second, first = np.sort(probabilities)[-2:]
        return float(received.argmax() == expected.argmax() or first - second < UNDECIDED)
    agree = ((received > 0) == (expected > 0)) | (np.abs(probabilities - 0.5) < UNDECIDED)
    return float(agree.mean())
