"""Test-time augmentation by mirroring: predicts an image and its mirror images, and averages the logits."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.engines import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from voxflow.prediction.agreement import AgreementMeter
    from voxflow.prediction.blending import Values

Axis = Literal["i", "j", "k"]
AXES: tuple[Axis, ...] = ("i", "j", "k")


class MirroringEngine(Engine):
    """An engine whose logits are the mean over every combination of flips along some axes of the network's grid.

    Args:
        engine: the model that is asked; one axis asks it twice, two axes four times, three axes eight times.
        axes: "i", "j", "k" of the network's grid; in any order.
        meter: measures how far the answers agree; None: nobody asks.

    Example:
        A network that sees only what lies on one side sees both sides when it is asked twice:

        >>> class RunningSum:
        ...     name = spec = is_local = batch = smallest = largest = device = None
        ...     def run(self, batch):
        ...         return batch.cumsum(axis=2)
        >>> bright = np.array([1, 0, 0, 0], dtype=np.float32).reshape(1, 1, 4, 1, 1)
        >>> MirroringEngine(RunningSum(), ["i"]).run(bright).ravel()
        array([1. , 0.5, 0.5, 0.5], dtype=float32)
    """

    def __init__(self, engine: Engine, axes: Sequence[Axis], meter: AgreementMeter | None = None) -> None:
        indices = sorted(AXES.index(axis) for axis in set(axes))
        self._engine, self._meter = engine, meter
        self.name, self.spec, self.is_local, self.batch = engine.name, engine.spec, engine.is_local, engine.batch
        self.smallest, self.largest, self.device = engine.smallest, engine.largest, engine.device
        # Axes counted from the end, since a batch (batch, channel, i, j, k) has two in front.
        self._flips = [tuple(n - 3 for n in subset) for count in range(1, len(indices) + 1)
                       for subset in combinations(indices, count)]  # fmt: skip

    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """See :class:`voxflow.engines.Engine`."""
        total = self._engine.run_tensor(batch).clone()
        labels = self._find_labels(total)
        for axes in self._flips:
            answer = self._engine.run_tensor(batch.flip(axes)).flip(axes)
            labels += self._find_labels(answer)
            total += answer
        total.div_(len(self._flips) + 1)
        self._compare(labels, total)
        return total

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        total = self._engine.run(batch).copy()  # an engine may hand out the same memory at every call
        labels = self._find_labels(total)
        for axes in self._flips:
            answer = np.flip(self._engine.run(np.ascontiguousarray(np.flip(batch, axes))), axes)
            labels += self._find_labels(answer)
            total += answer
        total /= len(self._flips) + 1
        self._compare(labels, total)
        return total

    def _find_labels(self, logits: Values) -> list[Values]:
        """The label values of an answer (batch, class, i, j, k); nothing where nobody asks."""
        return [] if self._meter is None else [[self._meter.find_labels(part) for part in logits]]

    def _compare(self, labels: Sequence[Sequence[Values]], mean: Values) -> None:
        if self._meter is not None:
            masks = [self._meter.find_labels(part) for part in mean]
            for answer in labels:
                for part, mask in zip(answer, masks, strict=True):
                    self._meter.add_labels(part, mask)


def run_mirrored(engine: Engine, batch: NDArray[np.float32], axes: Sequence[Axis]) -> NDArray[np.float32]:
    """Return a classifier's logits (batch, class), the mean over every combination of flips along some axes.

    Args:
        engine: the model that is asked.
        batch: (batch, channel, rows, columns).
        axes: "i" (rows) and "j" (columns).
    """
    if not axes:
        return engine.run(batch)
    indices = sorted(AXES.index(axis) + 2 for axis in set(axes))
    subsets = [subset for count in range(len(indices) + 1) for subset in combinations(indices, count)]
    # An engine may hand out the same memory at every call.
    answers = [engine.run(np.ascontiguousarray(np.flip(batch, subset))).copy() for subset in subsets]
    return np.asarray(np.mean(answers, axis=0), dtype=np.float32)
