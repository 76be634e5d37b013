"""The result of a training: how it ended, how long it took, and the score of its best model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["finished", "time is up", "no more improvement", "interrupted"]


# state.pt keeps the fields by name: with one of another name, unfinished runs of earlier versions can't be continued.
@dataclass
class TrainingResult:
    """How a training went.

    Attributes:
        ending: why it stopped.
        epochs: epochs that were begun.
        steps: steps that the optimizer took.
        seconds: duration of the loop without preparing the cases; what ran before a continuation counts.
        key_metric: name of the metric that chose the best model; empty when nothing could be validated.
        best_epoch: the best model's epoch.
        best_metric: its key metric; NaN when there is none.
        metrics: every metric at the best epoch.
        train_loss: mean loss since the last validation.
        precision: "bf16", "fp16" or "fp32", in which the network was computed.
        kept: whether model.pt holds the best state that was validated, or the last; what is said of the best model is
            then said of the last.
        continued_at: the step that a killed run was continued at; 0: it was begun afresh.
    """

    ending: Ending = "finished"
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    key_metric: str = ""
    best_epoch: int = 0
    best_metric: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    train_loss: float = math.nan
    precision: str = "fp32"
    continued_at: int = 0
    kept: Literal["best", "last"] = "best"

    def to_metrics(self) -> dict[str, float]:
        """Return the counts and the finite numbers, flat, as JSON and ``dvc metrics`` want them.

        Example:
            >>> TrainingResult(epochs=2, steps=8, best_epoch=1, seconds=3.14, metrics={"val_dice": 0.5}).to_metrics()
            {'epochs': 2, 'steps': 8, 'best_epoch': 1, 'seconds': 3.1, 'val_dice': 0.5}
        """
        counts = {"epochs": self.epochs, "steps": self.steps, "best_epoch": self.best_epoch}
        values = {"seconds": round(self.seconds, 1), "train_loss": self.train_loss, **self.metrics}
        return counts | {name: value for name, value in values.items() if math.isfinite(value)}

    def to_tracked_metrics(self) -> dict[str, float]:
        """Return the same numbers under names that tell the best model's scores from those of the last epoch.

        Example:
            >>> list(TrainingResult(train_loss=0.1, metrics={"val_dice": 0.5}).to_tracked_metrics())[3:]
            ['train/seconds', 'train/train_loss', 'best_validation/val_dice']
        """
        return {
            f"{'best_validation' if name in self.metrics else 'train'}/{name}": value
            for name, value in self.to_metrics().items()
        }

    def summary(self) -> str:
        """One line for a person: how long it took, how it ended, and what the best model scored."""
        ended = "" if self.ending == "finished" else f" ({self.ending})"
        best = (
            f", {self.kept} {self.key_metric} {self.best_metric:.4f} in epoch {self.best_epoch}"
            if self.key_metric
            else ""
        )
        return f"{self.epochs} epochs{ended}, {self.seconds / 60:.1f} min in {self.precision}{best}"
