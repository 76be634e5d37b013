"""Owns the record of every model: one MLflow run a training, which the later stages continue."""

from voxflow.tracking.mlflow_tracker import begin_run, common_parent, continue_run
from voxflow.tracking.registry import ModelVersion, download_model, registered_models
from voxflow.tracking.tracker import (
    DEFAULT_URI,
    NullTracker,
    Tracker,
    read_run_file,
    store_in,
    tracking_uri,
    write_run_file,
)

__all__ = [
    "DEFAULT_URI",
    "ModelVersion",
    "NullTracker",
    "Tracker",
    "begin_run",
    "common_parent",
    "continue_run",
    "download_model",
    "read_run_file",
    "registered_models",
    "store_in",
    "tracking_uri",
    "write_run_file",
]
