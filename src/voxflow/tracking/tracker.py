"""Defines what the library may tell a tracker, whoever keeps the record, where runs are kept, and run.json.

Every stage after the training finds the training's run by run.json, which the stage train writes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from voxflow.errors import DataError
from voxflow.files import write_json
from voxflow.naming import make_distinct_names, make_metric_name
from voxflow.places import find_home
from voxflow.progress import say
from voxflow.redaction import hide_secrets, hide_values
from voxflow.tracking.provenance import to_params

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SQLITE = "sqlite:///"
DEFAULT_FILE = "mlflow.db"
DEFAULT_URI = f"{SQLITE}{DEFAULT_FILE}"
URI_VARIABLE = "MLFLOW_TRACKING_URI"


class Tracker(ABC):
    """The record of one run; each call becomes an entry, which is recorded now or later.

    No call raises because the record can't be kept: a training of many hours must not end for the sake of its record.

    Attributes:
        run_id: the run's id; empty when no record is kept.
        status: what the run ends with when its context ends without an error.
    """

    run_id: str
    status: str

    @abstractmethod
    def _record(self, subject: str, entry: dict[str, Any]) -> None:
        """Record an entry, or keep it for later; ``subject`` names it in a warning."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters.

        Args:
            values: nested mappings are flattened to dotted names as in params.yaml, such as ``train.seed``; a value
                that the run has already is kept, since MLflow lets no parameter change.
        """
        self._record("parameters", {"kind": "params", "values": to_params(values)})

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers.

        Args:
            values: by name; NaN and infinities are left out.
            step: the epoch, counted from 1; None for a number of the whole run.
        """
        names = make_distinct_names(values, make_metric_name)
        finite = {names[key]: float(value) for key, value in values.items() if math.isfinite(value)}
        if finite:
            self._record("metrics", {"kind": "metrics", "values": finite, "step": step})

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Record short facts, such as a commit."""
        self._record("tags", {"kind": "tags", "values": hide_values(values)})

    def log_datasets(self, datasets: Sequence[Mapping[str, str]]) -> None:
        """Record the data that a run learns from, see :func:`voxflow.tracking.inputs.make_datasets`."""
        if datasets:
            self._record("datasets", {"kind": "datasets", "values": list(datasets)})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file or a folder; one that is not there is named in a warning.

        Args:
            path: the file, or a folder with all that it holds.
            folder: of the run's artifacts, such as "models"; None: their top.
        """
        if not path.exists():
            say(f"warning: {path} is not there, so MLflow keeps no copy of it")
            return
        self._record(f"{path}", {"kind": "artifact", "path": str(path.absolute()), "folder": folder})

    def log_table(self, path: Path, name: str) -> None:
        """Keep a CSV as a table that MLflow's pages show and compare row by row.

        Args:
            path: the CSV; nothing is kept where it is missing.
            name: the artifact; ends in ``.json``, such as ``test/per_case.json``; one of this name is replaced.
        """
        if path.is_file():
            self._record(f"{path}", {"kind": "table", "path": str(path.absolute()), "name": name})

    def log_model(self, path: Path, name: str = "model") -> str:
        """Keep an exported ONNX file as a model that can be registered, served and loaded.

        Returns:
            The model's URI, for ``mlflow.pyfunc.load_model`` or the registry; empty when it was not kept: a model does
            not wait for a store that is away, since the workspace has it.
        """
        return ""

    def adopt(self, run_ids: Sequence[str]) -> None:
        """Make this run the parent of others; one that the store does not know is left out."""
        self._record("child runs", {"kind": "children", "values": [run_id for run_id in run_ids if run_id]})

    def mark_interrupted(self) -> None:
        """Note that a person ended the work early, so that the run ends as KILLED although no error is raised."""
        self.status = "KILLED"


@dataclass
class NullTracker(Tracker):
    """Keeps no record."""

    run_id: str = ""
    status: str = "FINISHED"

    def _record(self, subject: str, entry: dict[str, Any]) -> None:
        """Drop it."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Drop it, whether it is there or not."""


def get_tracking_uri() -> str:
    """Where runs are kept: ``MLFLOW_TRACKING_URI``, else a SQLite file in the working directory.

    A SQLite file that is no absolute path is the repository's also where an experiment of DVC runs in a copy of it.
    """
    uri = os.environ.get(URI_VARIABLE) or DEFAULT_URI
    is_here = uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/")
    return f"{SQLITE}{find_home() / uri.removeprefix(SQLITE)}" if is_here else uri


def is_server(uri: str) -> bool:
    """Whether runs are kept by a server that is asked over http, so that no database is needed on this machine.

    Example:
        >>> is_server("https://mlflow.hospital:5000"), is_server("sqlite:///mlflow.db")
        (True, False)
    """
    return uri.startswith(("http://", "https://", "databricks"))


def move_credentials() -> None:
    """Move the user and the password of a server's address from ``MLFLOW_TRACKING_URI`` to variables of their own.

    MLflow repeats the address in its errors, its logs and its tracebacks; of these variables it says nothing. Those
    that are set already count.
    """
    uri = os.environ.get(URI_VARIABLE, "")
    parts = urlsplit(uri) if uri.startswith(("http://", "https://")) else None
    user_and_password, at, host = parts.netloc.rpartition("@") if parts else ("", "", "")
    if parts and at:
        user, _, password = user_and_password.partition(":")
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(user))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(password))
        os.environ[URI_VARIABLE] = urlunsplit(parts._replace(netloc=host))


@contextlib.contextmanager
def use_store(repository: Path | None) -> Iterator[bool]:
    """Choose the store for work that may stand in a repository or by itself, while the context lasts.

    Args:
        repository: the root of a repository, whose own store is used unless ``MLFLOW_TRACKING_URI`` names another;
            None: there is none.

    Yields:
        Whether there is a store at all.
    """
    if os.environ.get(URI_VARIABLE) or repository is None:
        yield bool(os.environ.get(URI_VARIABLE))
        return
    os.environ[URI_VARIABLE] = f"sqlite:///{(repository / DEFAULT_FILE).absolute()}"
    try:
        yield True
    finally:
        del os.environ[URI_VARIABLE]


def write_run_file(path: Path, tracker: Tracker, experiment: str) -> None:
    """Write the run's id where the later stages find it.

    Args:
        path: run.json; the file is one of DVC's outputs, so it must be the same on every machine.
        tracker: its run.
        experiment: the workspace's name.

    Raises:
        OSError: the disk is full, say.
    """
    # The place of this clone of the repository is nobody's business elsewhere.
    uri = DEFAULT_URI if get_tracking_uri() == f"{SQLITE}{find_home() / DEFAULT_FILE}" else get_tracking_uri()
    address = hide_secrets(uri)
    write_json(path, {"run_id": tracker.run_id, "experiment": experiment, "tracking_uri": address})


def read_run_file(path: Path) -> str:
    """Read the id of the run that a training began; empty when it kept no record.

    Raises:
        DataError: the file is missing or holds no run id.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["run_id"])
    except FileNotFoundError as error:
        raise DataError("file not found; the stage train writes it", path=path) from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError('expected {"run_id": ...}', path=path) from error
