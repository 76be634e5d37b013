"""Collects the losses of the steps, and finds one that is no number without waiting for the device."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class LossNotFinite(Exception):  # noqa: N818 (a signal between meter and loop, turned into a TrainingError there)
    """A loss that is not a number; ``place`` is what :meth:`LossMeter.add` was called with."""

    def __init__(self, value: float, place: Any) -> None:
        self.value, self.place = value, place
        super().__init__(f"{value}")


@dataclass
class LossMeter:
    """Collects losses.

    On a GPU a loss is copied to the host in the background and looked at when it has arrived, a step or two later;
    ``drain`` waits for all, and is called before anything is written down. On a CPU it is looked at right away.

    Attributes:
        total: sum of the losses since ``reset``.
        count: number of losses since ``reset``.
    """

    total: float = 0.0
    count: int = 0
    _pending: deque[tuple[Any, torch.Tensor, Any]] = field(default_factory=deque, repr=False)

    def add(self, loss: torch.Tensor, place: Any) -> None:
        """Note one loss.

        Args:
            loss: a number on any device.
            place: epoch and cases of the step, which the error names when the loss is not finite.

        Raises:
            LossNotFinite: it, or one before it, is not a number.
        """
        import torch

        loss = loss.detach()
        if loss.device.type == "cpu":
            self._record(float(loss), place)
            return
        # float(loss) would wait for the GPU to finish the step, and leave it idle until the next one is launched.
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        host_loss = torch.empty((), dtype=torch.float32, pin_memory=True)
        host_loss.copy_(loss, non_blocking=True)
        copied.record()
        self._pending.append((copied, host_loss, place))
        while self._pending and self._pending[0][0].query():
            self._record_next()

    def drain(self) -> None:
        """Wait for every loss.

        Raises:
            LossNotFinite: one is not a number.
        """
        while self._pending:
            self._pending[0][0].synchronize()
            self._record_next()

    def reset(self) -> None:
        """Begin a new mean."""
        self.total, self.count = 0.0, 0

    def _record_next(self) -> None:
        _, host, place = self._pending.popleft()
        self._record(float(host), place)

    def _record(self, value: float, place: Any) -> None:
        if not math.isfinite(value):
            raise LossNotFinite(value, place)
        self.total += value
        self.count += 1
