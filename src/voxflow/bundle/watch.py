"""Records the loss and metrics of each epoch from a bundle's ignite engines, and can end the training early."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from voxflow.bundle.guard import lift_bounds
from voxflow.errors import TrainingError

if TYPE_CHECKING:
    from voxflow.training import Interruption, Recorder


class TrainingWatch:
    """Handlers on a trainer, and on its evaluator where there is one.

    Args:
        trainer: an ignite engine whose output holds the loss.
        evaluator: what validates; None where nothing does.
        recorder: gets a row an epoch that was validated, or every epoch without an evaluator.
        interruption: ends the training after the present step.
    """

    def __init__(self, trainer: Any, evaluator: Any, recorder: Recorder, interruption: Interruption) -> None:
        from ignite.engine import Events

        self.trainer, self.recorder, self.interruption = trainer, recorder, interruption
        self.best: tuple[float, int] = (math.nan, 0)
        self.metrics: dict[str, float] = {}
        self.key = ""
        self.train_loss = math.nan
        self.steps = 0
        self.fault = ""
        self._losses: list[float] = []
        self._validated: dict[str, float] | None = None
        self._began = time.monotonic()
        # Last of its event: the bundle's own ValidationHandler runs the evaluator in the same one.
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        trainer.add_event_handler(Events.COMPLETED, self._rest)
        if evaluator is not None:
            evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._record_scores)
        self._validates = evaluator is not None

    def require(self) -> None:
        """Raise what stopped the training; an engine that were to raise it would only wrap and repeat it.

        Raises:
            TrainingError: the loss is not a number.
        """
        if self.fault:
            raise TrainingError(self.fault)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def _step(self, engine: Any) -> None:
        self.steps += 1
        value = read_loss(engine.state.output)
        if value is not None:
            if not math.isfinite(value):
                self.fault = f"the loss is {value} in epoch {engine.state.epoch}, step {self.steps}"
            self._losses.append(value)
        if self.fault or self.interruption.is_requested:
            engine.terminate()

    def _record_scores(self, engine: Any) -> None:
        self._validated = {name: float(value) for name, value in engine.state.metrics.items() if is_number(value)}
        self.key = str(getattr(engine.state, "key_metric_name", None) or next(iter(self._validated), ""))

    def _epoch(self, engine: Any) -> None:
        if self._validated is not None or not self._validates:
            self._row(engine.state.epoch)

    def _rest(self, engine: Any) -> None:
        """The epochs since the last validation."""
        if self._losses and not self.fault and not self.interruption.is_requested:
            self._row(engine.state.epoch)

    def _row(self, epoch: int) -> None:
        metrics, self._validated = self._validated or {}, None
        self.train_loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses = []
        rate = _read_rate(self.trainer)
        with lift_bounds():
            self.recorder.write_row(epoch, {"train_loss": self.train_loss, **rate, "seconds": self.seconds, **metrics})
        value = metrics.get(self.key, math.nan)
        # Written so that a first value beats NaN, and of equal ones the longer trained is kept.
        if not math.isnan(value) and not value < self.best[0]:
            self.best, self.metrics = (value, epoch), metrics


def read_loss(output: Any) -> float | None:
    """The loss in a trainer's output: MONAI gives a dictionary, or one a case."""
    first = output[0] if isinstance(output, list) and output else output
    value = first.get("loss") if isinstance(first, dict) else first
    return None if value is None or not hasattr(value, "__float__") else float(value)


def is_number(value: Any) -> bool:
    """Whether a metric is one finite number."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, RuntimeError):
        return False


def _read_rate(trainer: Any) -> dict[str, float]:
    optimizer = getattr(trainer, "optimizer", None)
    groups = getattr(optimizer, "param_groups", None)
    return {"learning_rate": float(groups[0]["lr"])} if groups else {}
