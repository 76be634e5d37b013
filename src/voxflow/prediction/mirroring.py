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


Axis = Literal["i", "j", "k"]
AXES: tuple[Axis, ...] = ("i", "j", "k")


class MirroringEngine(Engine):
    """An engine whose logits are the mean over every combination of flips along some axes of the network's grid.

    Args:
        engine: the model that is asked; one axis asks it twice, two axes four times, three axes eight times.
        axes: "i", "j", "k" of the network's grid; in any order.

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

    def __init__(self, engine: Engine, axes: Sequence[Axis]) -> None:
        indices = sorted(AXES.index(axis) for axis in set(axes))
        self._engine = engine
        self.name, self.spec, self.is_local, self.batch = engine.name, engine.spec, engine.is_local, engine.batch
        self.smallest, self.largest, self.device = engine.smallest, engine.largest, engine.device
        # Axes counted from the end, since a batch (batch, channel, i, j, k) has two in front.
        self._flips = [tuple(n - 3 for n in subset) for count in range(1, len(indices) + 1)
                       for subset in combinations(indices, count)]  # fmt: skip

    def run_tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """See :class:`voxflow.engines.Engine`."""
        total = self._engine.run_tensor(batch).clone()
        for axes in self._flips:
            total += self._engine.run_tensor(batch.flip(axes)).flip(axes)
        return total.div_(len(self._flips) + 1)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`voxflow.engines.Engine`."""
        total = self._engine.run(batch).copy()  # an engine may hand out the same memory at every call
        for axes in self._flips:
            total += np.flip(self._engine.run(np.ascontiguousarray(np.flip(batch, axes))), axes)
        total /= len(self._flips) + 1
        return total


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
