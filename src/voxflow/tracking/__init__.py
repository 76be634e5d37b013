"""Owns the record of every model: one MLflow run a training, which the later stages continue."""

from voxflow.tracking.mlflow_tracker import begin_run, continue_run
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
    "NullTracker",
    "Tracker",
    "begin_run",
    "continue_run",
    "read_run_file",
    "store_in",
    "tracking_uri",
    "write_run_file",
]
