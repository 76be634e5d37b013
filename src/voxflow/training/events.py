"""Writes TensorBoard's event file at once, so that a full disk is seen here and never leaves half an event."""

from __future__ import annotations

import itertools
import os
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "brain.Event:2"  # what TensorBoard asks for in the first event of a file
_COUNT = itertools.count()


class EventFile:
    """One event file.

    TensorBoard's own writer works in a thread of its own, which a full disk ends with a traceback that no caller can
    catch. Here each row is appended by the caller, and what a full disk leaves of it is cut off again.

    Args:
        folder: where TensorBoard looks; it is made when something is written.
        purge_step: events of this step and later ones, in other files of the folder, are taken back; None: none.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        # TensorBoard reads the files of a folder in the order of their names.
        place = f"{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"
        self._path = folder / f"events.out.tfevents.{int(time.time()):010d}.{place}"
        self._purge_step = purge_step

    def write_row(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one step.

        Raises:
            OSError: the disk is full, say; the file ends where it did.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        events = [Event(step=step, summary=Summary(value=[number])) for number in numbers]
        self._append([*([] if self._path.exists() else self._first_events()), *events])

    def _first_events(self) -> list[Any]:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        head = [Event(file_version=FORMAT)]
        if self._purge_step is not None:
            head.append(Event(step=self._purge_step, session_log=SessionLog(status=SessionLog.START)))
        return head

    def _append(self, events: list[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._path.parent.mkdir(parents=True, exist_ok=True)
        bytes_before = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("ab") as stream:
                writer = RecordWriter(stream)
                for event in events:
                    event.wall_time = time.time()
                    writer.write(event.SerializeToString())
        except OSError:
            # Half an event would hide all later ones: TensorBoard stops reading at a record whose checksum is wrong.
            if bytes_before:
                os.truncate(self._path, bytes_before)
            else:
                self._path.unlink(missing_ok=True)
            raise
