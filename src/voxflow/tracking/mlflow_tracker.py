"""Owns MLflow: the only module that imports it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.progress import say
from voxflow.tracking.tracker import NullTracker, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_URI = "sqlite:///mlflow.db"
LONGEST_VALUE = 5900  # MLflow refuses parameters of more than 6,000 characters.


@dataclass
class MlflowTracker:
    """Records into one MLflow run, which is active while the context of begin_run or continue_run lasts."""

    run_id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, flattened to dotted names; a value recorded before is kept."""
        import mlflow

        known = mlflow.get_run(self.run_id).data.params
        flat = {key: str(value)[:LONGEST_VALUE] for key, value in flatten(values).items()}
        mlflow.log_params({key: value for key, value in flat.items() if key not in known})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record finite numbers."""
        import mlflow

        mlflow.log_metrics({key: float(value) for key, value in values.items() if math.isfinite(value)}, step=step)

    def tags(self, values: Mapping[str, str]) -> None:
        """Record short facts."""
        import mlflow

        mlflow.set_tags(dict(values))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder."""
        import mlflow

        keep = mlflow.log_artifacts if path.is_dir() else mlflow.log_artifact
        keep(str(path), artifact_path=folder)

    def model(self, path: Path, name: str = "model") -> None:
        """Keep an ONNX file as an MLflow model, with the signature that its inputs and outputs state."""
        import mlflow.onnx
        import onnx

        model = onnx.load(str(path))
        mlflow.onnx.log_model(model, name=name, signature=_signature(model), pip_requirements=["onnxruntime", "numpy"])


@contextlib.contextmanager
def begin_run(
    experiment: str, *, params: Mapping[str, Any] | None = None, datalist: Path | None = None
) -> Iterator[Tracker]:
    """Begin the run of a training.

    Args:
        experiment: the workspace's name.
        params: the workspace's block of params.yaml.
        datalist: the datalist file, whose hash becomes a tag.

    Yields:
        The tracker. When the tracking store can't be reached, one line says so and nothing is recorded: a
        training must not die of it.
    """
    with _active_run(experiment, None) as tracker:
        tracker.params(params or {})
        tracker.tags(provenance(datalist))
        yield tracker


@contextlib.contextmanager
def continue_run(run_id: str) -> Iterator[Tracker]:
    """Continue the run that a training began, by its id; an empty id keeps no record."""
    if not run_id:
        yield NullTracker()
        return
    with _active_run(None, run_id) as tracker:
        yield tracker


@contextlib.contextmanager
def _active_run(experiment: str | None, run_id: str | None) -> Iterator[Tracker]:
    import mlflow
    from mlflow.exceptions import MlflowException

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI))
    try:
        if experiment is not None:
            mlflow.set_experiment(experiment)
        mlflow.start_run(run_id=run_id, log_system_metrics=True)
    except (MlflowException, OSError) as error:
        say(f"warning: the MLflow store can't be used, so nothing is recorded there: {str(error).splitlines()[0]}")
        yield NullTracker(run_id or "")
        return
    active = mlflow.active_run()
    status = "FAILED"
    try:
        yield MlflowTracker(active.info.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted names: ``{"set": {"epochs": 3}}`` → ``{"set.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def provenance(datalist: Path | None) -> dict[str, str]:
    """The tags that say what a run was made of: git commit, dvc.lock and datalist hashes."""
    tags = {"git_commit": _git("rev-parse", "HEAD") or "none", "git_dirty": str(bool(_git("status", "--porcelain")))}
    for name, path in (("dvc_lock_sha256", Path("dvc.lock")), ("datalist_sha256", datalist)):
        if path is not None and path.is_file():
            tags[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return tags


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _signature(model: Any) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(value: Any) -> TensorSpec:
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
        return TensorSpec(np.dtype("float32"), shape, value.name)

    return ModelSignature(Schema([spec(v) for v in model.graph.input]), Schema([spec(v) for v in model.graph.output]))
