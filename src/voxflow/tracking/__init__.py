"""Owns the record of every model: one MLflow run a training, which the later stages continue."""

from voxflow.tracking.mlflow_tracker import begin_run, common_parent, continue_run
from voxflow.tracking.registry import ModelVersion, download_model, registered_models
from voxflow.tracking.runs import Run, fetch_artifacts, find_run
from voxflow.tracking.tracker import (
    DEFAULT_URI,
    NullTracker,
    Tracker,
    read_run_file,
    store_in,
    tracking_uri,
    write_run_file,
)
from voxflow.tracking.versions import (
    CHALLENGER,
    CHAMPION,
    Version,
    described,
    fetch,
    keep_file,
    materialise_champion,
    model_tag,
    register,
    remove_alias,
    set_alias,
    tag_model,
    tag_version,
    version_called,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "DEFAULT_URI",
    "ModelVersion",
    "NullTracker",
    "Run",
    "Tracker",
    "Version",
    "begin_run",
    "common_parent",
    "continue_run",
    "described",
    "download_model",
    "fetch",
    "fetch_artifacts",
    "find_run",
    "keep_file",
    "materialise_champion",
    "model_tag",
    "read_run_file",
    "register",
    "registered_models",
    "remove_alias",
    "set_alias",
    "store_in",
    "tag_model",
    "tag_version",
    "tracking_uri",
    "version_called",
    "write_run_file",
]
