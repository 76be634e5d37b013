"""Owns what the library may say to a tracker, whoever keeps the record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from voxflow.errors import DataError
from voxflow.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Tracker(Protocol):
    """The record of one run; every call is safe to make at any time."""

    run_id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; nested mappings are flattened to dotted names as in params.yaml."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, by epoch where ``step`` is given; values that are not finite are left out."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record short facts, such as a commit."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or a folder with what it holds."""

    def model(self, path: Path, name: str = "model") -> None:
        """Keep an exported ONNX file as a model that can be registered, served and loaded."""


@dataclass
class NullTracker:
    """Keeps no record."""

    run_id: str = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Drop them."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Drop them."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Drop them."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Drop it."""

    def model(self, path: Path, name: str = "model") -> None:
        """Drop it."""


def write_run_file(path: Path, tracker: Tracker, experiment: str) -> None:
    """Write the run's id where the later stages find it."""
    write_json(path, {"run_id": tracker.run_id, "experiment": experiment})


def read_run_file(path: Path) -> str:
    """Read the id of the run that a training began; empty when it kept no record.

    Raises:
        DataError: the file is missing or holds no run id.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["run_id"])
    except FileNotFoundError as error:
        raise DataError("file not found; the stage train writes it", path=path) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError('expected {"run_id": ...}', path=path) from error
