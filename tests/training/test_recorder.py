"""What a training leaves to look at can be read by TensorBoard, and a disk that is full costs a line."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tables import read_table
from voxflow.tracking import NullTracker
from voxflow.training.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, round(event.value, 6)) for event in accumulator.Scalars(name)]


def test_tensorboard_reads_the_events_and_a_continuation_takes_later_ones_back(tmp_path: Path) -> None:
    first = Recorder(tmp_path / "events", tmp_path / "curves.csv", NullTracker())
    for epoch in (1, 2, 3):
        first.write_row(epoch, {"loss": 1 / epoch, "dice": float("nan") if epoch == 1 else 0.5})
    assert scalars(tmp_path / "events", "dice") == [(2, 0.5), (3, 0.5)]
    second = Recorder(tmp_path / "events", tmp_path / "curves.csv", NullTracker(), first.rows[:2])
    second.write_row(3, {"loss": 7.0})
    assert scalars(tmp_path / "events", "loss") == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert [row["loss"] for row in read_table(tmp_path / "curves.csv")] == ["1", "0.5", "7"]


def test_a_full_disk_is_said_once_and_what_can_be_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(tmp_path / "events", tmp_path / "curves.csv", NullTracker())
    recorder.write_row(1, {"loss": 1.0})

    def full(self: Any, data: bytes) -> None:
        self._writer.write(data[:3])
        self._writer.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    def nowhere(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
        patch.setattr("voxflow.training.recorder.write_text", nowhere)
        recorder.write_row(2, {"loss": 2.0})
        recorder.write_row(3, {"loss": 3.0})
    recorder.write_row(4, {"loss": 4.0})
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" could not be written, training goes on: [Errno 28]")[0] for line in lines] == [
        "warning: TensorBoard's events",
        "warning: the curves",
    ]
    assert scalars(tmp_path / "events", "loss") == [(1, 1.0), (4, 4.0)]
    assert [row["epoch"] for row in read_table(tmp_path / "curves.csv")] == ["1", "2", "3", "4"]
