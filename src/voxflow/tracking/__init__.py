"""Owns the record of every model: one MLflow run a training, which the later stages continue."""

from voxflow.tracking.mlflow_tracker import begin_run, continue_run
from voxflow.tracking.tracker import NullTracker, Tracker, read_run_file, write_run_file

__all__ = ["NullTracker", "Tracker", "begin_run", "continue_run", "read_run_file", "write_run_file"]
