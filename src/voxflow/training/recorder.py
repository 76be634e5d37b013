"""Records the progress of a training: TensorBoard events, curves.csv, metrics at the tracker."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from voxflow.files import write_text
from voxflow.progress import say
from voxflow.training.events import EventFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from voxflow.tracking import Tracker

OF_TRAINING = ("train_loss", "learning_rate", "seconds")  # the numbers of an epoch that no validation made


class Recorder:
    """Writes one row a validation: epoch, train_loss, learning_rate, seconds, then every metric.

    Args:
        events: folder of the TensorBoard event files.
        curves: the CSV file, rewritten whole at each row so that it can be watched.
        tracker: records the same numbers.
        rows: those of a run that is continued; events of later epochs than theirs are taken back.
    """

    def __init__(
        self, events: Path, curves: Path, tracker: Tracker, rows: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self._curves = curves
        self._tracker = tracker
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows or ()]
        purged = None if rows is None else (self.rows[-1]["epoch"] + 1 if self.rows else 0)
        self._events = EventFile(events, purged)
        self._failing: set[str] = set()
        if self.rows:
            # DVC removes the file before it runs the stage again.
            self._try_to_write("the curves", self._write)

    def write_row(self, epoch: int, values: Mapping[str, float]) -> None:
        """Record numbers of one epoch everywhere.

        A disk that is full costs one warning, not the training.

        Args:
            epoch: counted from 1.
            values: by name; those that are not defined (NaN) are left empty.
        """
        defined = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._try_to_write("TensorBoard's events", lambda: self._events.write_row(epoch, defined))
        # Beside the scores on unseen cases, "mean_dice" would not say whose it is.
        named = {name if name in OF_TRAINING else f"validation/{name}": value for name, value in defined.items()}
        self._tracker.log_metrics(named, step=epoch)
        self.rows.append({"epoch": epoch} | {name: f"{value:.6g}" for name, value in defined.items()})
        self._try_to_write("the curves", self._write)

    def _try_to_write(self, subject: str, write: Callable[[], None]) -> None:
        """Write; a full disk must not end a training for the sake of its pictures, and is said once."""
        try:
            write()
        except OSError as error:
            if subject not in self._failing:
                say(f"warning: {subject} could not be written, training goes on: {error}")
            self._failing.add(subject)
        else:
            self._failing.discard(subject)

    def _write(self) -> None:
        text = io.StringIO()
        columns = {name: None for row in self.rows for name in row}
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._curves, text.getvalue())
