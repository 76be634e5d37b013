"""The files of a report's parts, and the versions of software and data that made them."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES = ("voxflow", "torch", "monai", "numpy", "SimpleITK", "pydicom", "onnxruntime", "openvino", "mlflow", "dvc")


class ReportOptions(BaseModel):
    """The key ``report`` of a workspace in params.yaml.

    Attributes:
        title: heading of the page; the workspace's name when left out.
        description: what the model is for, one or two sentences; taken from the datalist when left out.
        overlays: no more pictures than so many of the cases without a label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    description: str = ""
    overlays: NonNegativeInt = 6


@dataclass(frozen=True)
class ReportSources:
    """The folders and files that a report is made of; each may be missing, and the page then says so.

    Attributes:
        workspace: its name.
        task: "segmentation" or "classification".
        volumes: holds conversion.csv.
        quality: holds report.json.
        datalist: the datalist file.
        config: the MMAR's training configuration.
        models: holds curves.csv, parity.json, train/run.json.
        evaluation: holds test/ and infer/, and ensemble/ where there are folds.
        metrics: holds one flat JSON file a stage.
        settings: the workspace's block of params.yaml.
        resampled: holds failures.json where cases could not be resampled; None: there is no such stage.
        provenance: the git commit, digests of dvc.lock and the datalist, and the like, by name.
    """

    workspace: str
    task: str
    volumes: Path
    quality: Path
    datalist: Path
    config: Path
    models: Path
    evaluation: Path
    metrics: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    resampled: Path | None = None


def installed_versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that make the numbers, by name."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree, say
            versions[name] = "not installed as a package"
    return versions
