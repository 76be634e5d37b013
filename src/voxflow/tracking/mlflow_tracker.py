"""Records the work of one run at MLflow; what the store can't take waits in a backlog file.

Every call of a tracker becomes an entry, a plain mapping with the key ``kind``. The entry is recorded at once, or it is
kept as a line of the run's backlog and recorded later. Both ways end in :meth:`MlflowTracker.record_entry`, so that
nothing is recorded differently because the store was away for a while.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.progress import say
from voxflow.tracking.backlog import Backlog
from voxflow.tracking.inputs import log_datasets
from voxflow.tracking.locking import lock_store
from voxflow.tracking.onnx_model import log_onnx
from voxflow.tracking.store import first_line_of, has_run, ignore_deprecations, store_failures
from voxflow.tracking.sweeps import BASELINE, PARENT, find_parent_tag
from voxflow.tracking.table import log_table
from voxflow.tracking.tracker import Tracker, get_tracking_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RETRY_S = 600  # how long a store that is away is left alone
BATCH = 100  # of parameters and tags, as MLflow takes them at most


@dataclass
class MlflowTracker(Tracker):
    """Records into one MLflow run, which is active while the context of begin_run or continue_run lasts.

    Attributes:
        run_id: MLflow's id of the run.
        status: what the run ends with when its context ends without an error.
        backlog: the file for what the store can't take.
    """

    run_id: str
    status: str = "FINISHED"
    _client: Any = field(default=None, repr=False)
    backlog: Backlog = field(default_factory=lambda: Backlog.for_run("", ""), repr=False)
    _lost_since: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()

    def log_model(self, path: Path, name: str = "model") -> str:
        """Keep an ONNX file as an MLflow model, with the signature that its inputs and outputs state."""
        if self._is_lost:
            return ""
        try:
            return log_onnx(path, name)
        except store_failures() as error:
            self._note_loss(f"model {path}", error)
            return ""

    def end(self, status: str) -> None:
        """Send what waits, and end the run.

        Args:
            status: MLflow's: FINISHED, FAILED or KILLED.
        """
        import mlflow

        self._lost_since = None if self._lost_since is None else -math.inf  # so that it is tried once more
        try:
            self.backlog.send(self.record_entry)
            self._client.set_terminated(self.run_id, status)
        except store_failures() as error:
            self._note_loss("end", error)
            self.backlog.add({"kind": "end", "status": status})
        with contextlib.suppress(*store_failures()):
            mlflow.end_run(status)

    def record_entry(self, entry: Mapping[str, Any]) -> None:
        """Record one entry, made now or kept from before.

        Args:
            entry: ``kind`` (params, metrics, tags, artifact, children, datasets, table, end) and its own keys. Backlog
                files of earlier versions hold the same, so keys may be added, never renamed.

        Raises:
            Exception: one of :func:`voxflow.tracking.store.store_failures`; nothing of the entry is lost then.
        """
        from mlflow.entities import Metric, Param, RunTag

        values = entry.get("values", {})
        if "path" in entry and not Path(entry["path"]).exists():
            say(f"warning: {entry['path']} is not there any more, so MLflow keeps no copy of it")
            return
        match entry["kind"]:
            case "params":
                # MLflow refuses a whole batch when one of its parameters has another value already.
                recorded = self._client.get_run(self.run_id).data.params
                new = {key: value for key, value in values.items() if key not in recorded}
                self._log_batches("params", [Param(key, str(value)) for key, value in new.items()])
            case "metrics":
                # A backlog's entry has the time when it was made, so that curves keep their shape.
                moment, step = entry.get("time") or int(time.time() * 1000), entry.get("step") or 0
                self._log_batches("metrics", [Metric(key, value, moment, step) for key, value in values.items()])
            case "tags":
                tags = {**values, **self._find_parent(values)}
                self._log_batches("tags", [RunTag(key, str(value)) for key, value in tags.items()])
            case "artifact":
                keep = self._client.log_artifacts if Path(entry["path"]).is_dir() else self._client.log_artifact
                keep(self.run_id, entry["path"], entry["folder"])
            case "children":
                for run_id in filter(has_run, values):
                    self._client.set_tag(run_id, PARENT, self.run_id)
            case "datasets":
                log_datasets(self._client, self.run_id, values)
            case "table":
                log_table(self._client, self.run_id, Path(entry["path"]), entry["name"])
            case "end":
                self._client.set_terminated(self.run_id, entry["status"])

    def _find_parent(self, tags: Mapping[str, str]) -> dict[str, str]:
        if BASELINE not in tags:
            return {}
        with lock_store(get_tracking_uri()), ignore_deprecations():
            return find_parent_tag(self._client, self.run_id, tags)

    def _log_batches(self, kind: str, entities: Sequence[Any]) -> None:
        for first in range(0, len(entities), BATCH):
            self._client.log_batch(self.run_id, **{kind: entities[first : first + BATCH]})

    @property
    def _is_lost(self) -> bool:
        return self._lost_since is not None and time.monotonic() - self._lost_since < RETRY_S

    def _record(self, subject: str, entry: dict[str, Any]) -> None:
        """Make one call; when the store fails, say so once, and keep this and later ones for when it is back.

        A store that is away is asked again after some minutes only: each call could wait for a long time.
        """
        if self._is_lost:
            self.backlog.add(entry)
            return
        try:
            self.backlog.send(self.record_entry)
            self.record_entry(entry)
            self._lost_since = None
        except store_failures() as error:
            self._note_loss(subject, error)
            self.backlog.add(entry)

    def _note_loss(self, subject: str, error: Exception) -> None:
        if self._lost_since is None:
            say(
                f"warning: MLflow could not record {subject}; this and what follows is kept in {self.backlog.path} "
                f"and sent when it is back: {first_line_of(error)}"
            )
        self._lost_since = time.monotonic()


@dataclass
class OfflineTracker(Tracker):
    """Keeps everything for a store that was away when the run began; a later run sends it.

    Attributes:
        backlog: the file that the entries wait in.
        run_id: empty, or the id of the run that was to be continued.
        status: what the run ends with when its context ends without an error.
    """

    backlog: Backlog
    run_id: str = ""
    status: str = "FINISHED"

    def _record(self, subject: str, entry: dict[str, Any]) -> None:
        self.backlog.add(entry)

    def end(self, status: str) -> None:
        """Keep how the run ended.

        Args:
            status: MLflow's: FINISHED, FAILED or KILLED.
        """
        self.backlog.add({"kind": "end", "status": status})
