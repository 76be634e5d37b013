"""Writes to a file what the MLflow store could not take, line by line, until the store can be reached again."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from voxflow.files import write_text
from voxflow.places import find_home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOLDER = Path(".voxflow") / "unsent"


@dataclass
class Backlog:
    """The lines of one run: the first names it, each other is one call of the tracker.

    Attributes:
        path: the file; it is there only while something waits.
        experiment: the run's experiment, for a run that the store has never heard of.
        run_id: the run's id; empty when the store was away from the beginning.
    """

    path: Path
    experiment: str
    run_id: str

    @classmethod
    def for_run(cls, experiment: str, run_id: str) -> Backlog:
        """The backlog of a run: a file below the repository, which is made when the first entry is added.

        Args:
            experiment: the run's.
            run_id: empty where the store gave none; the file then gets a name of its own.
        """
        return cls(_backlog_folder() / f"{run_id or uuid.uuid4().hex}.jsonl", experiment, run_id)

    @classmethod
    def read(cls, path: Path) -> Backlog:
        """Open the file that an earlier process left.

        Raises:
            OSError: it can't be read.
            ValueError: its first line is no JSON.
            KeyError: its first line names no run.
        """
        head = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        return cls(path, head["experiment"], head["run_id"])

    @property
    def is_waiting(self) -> bool:
        """Whether any entry waits to be sent."""
        return self.path.is_file()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Keep one entry, with the time of day; a disk that takes nothing any more loses it.

        Args:
            entry: as ``MlflowTracker.record_entry`` takes it; what is no JSON is kept as text. A path below the
                repository is kept relative to it, since the repository may be moved before the file is sent.
        """
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One line a call and no rewriting: a killed process loses at most the line that it was writing.
            line = json.dumps({"time": int(time.time() * 1000), **entry, **_shorten_path(entry)}, default=str)
            with self.path.open("a+b") as stream:
                stream.write(self._mend_end(stream) + line.encode() + b"\n")

    def _mend_end(self, stream: IO[bytes]) -> bytes:
        """What must stand before a new line: nothing, or what a full disk has cut off of the lines before."""
        head = self._header_line().encode() + b"\n"
        stream.seek(0)
        if stream.readline() != head:
            stream.truncate(0)
            return head
        stream.seek(-1, os.SEEK_END)
        return b"" if stream.read() == b"\n" else b"\n"

    def send(self, record_entry: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand over every line in order and remove the file; where one can't be recorded, it and the rest stay.

        Args:
            record_entry: records one entry at the store; what it raises ends the sending and is passed on.
        """
        if not self.is_waiting:
            return
        # Without even its first line where the disk was full when it was begun.
        lines = self.path.read_text(encoding="utf-8").splitlines()[1:]
        try:
            while lines:
                # The last line may have been cut off when its process was killed.
                with contextlib.suppress(json.JSONDecodeError):
                    entry = json.loads(lines[0])
                    record_entry(entry | ({"path": str(_find_root() / entry["path"])} if "path" in entry else {}))
                lines.pop(0)
        finally:
            if lines:
                write_text(self.path, "\n".join([self._header_line(), *lines]) + "\n")
            else:
                self.path.unlink(missing_ok=True)

    def _header_line(self) -> str:
        return json.dumps({"experiment": self.experiment, "run_id": self.run_id})


def _find_root() -> Path:
    return find_home().absolute()


def _backlog_folder() -> Path:
    return _find_root() / FOLDER


def _shorten_path(entry: Mapping[str, Any]) -> dict[str, str]:
    path, root = Path(entry.get("path", "")), _find_root()
    return {"path": path.relative_to(root).as_posix()} if path.is_relative_to(root) else {}


def list_backlogs() -> list[Path]:
    """The files of all backlogs, oldest first: of earlier processes, and of those that go on."""
    with contextlib.suppress(OSError):
        return sorted(_backlog_folder().glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return []
