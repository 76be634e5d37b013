"""The files of a report's parts, and the versions of software and data that made them."""

from __future__ import annotations

import html
import importlib.metadata
import platform
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from voxflow.tracking import read_provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.places import WorkspaceLayout

# How the viewer lists its cases, at its beginning.
VIEWER_CASES = re.compile(r'<meta name="voxflow-cases" content="([^"]*)">')
MOST_HEAD = 1 << 16
PACKAGES = ("voxflow", "torch", "monai", "numpy", "SimpleITK", "pydicom", "onnxruntime", "openvino", "mlflow", "dvc")


class ReportOptions(BaseModel):
    """The key ``report`` of a workspace in params.yaml.

    Attributes:
        title: heading of the page; the workspace's name when left out.
        description: what the model is for, one or two sentences; taken from the datalist when left out.
        overlays: no more pictures than so many of the cases without a label.
        viewer: no more cases with a label than so many are in the viewer, those with the lowest scores; and half as
            many without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    description: str = ""
    overlays: NonNegativeInt = 6
    viewer: NonNegativeInt = 12


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
        corrections: holds corrections.csv and classes.csv where people sent corrections back; None: nobody could.
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
    corrections: Path | None = None

    @cached_property
    def viewer_cases(self) -> tuple[str, ...]:
        """The cases that viewer.html, beside the report, shows; none where there is no such page."""
        page = self.evaluation / "viewer.html"
        if not page.is_file():
            return ()
        with page.open(encoding="utf-8") as stream:
            listed = VIEWER_CASES.search(stream.read(MOST_HEAD))
        return tuple(html.unescape(listed[1]).split()) if listed else ()

    @classmethod
    def of(cls, places: WorkspaceLayout) -> Self:
        """Find the files of a workspace of the present folder, and what git and DVC say of them."""
        block = places.block
        datalist = places.datalists / "dataset_0.json"
        return cls(
            workspace=places.workspace,
            task=places.task,
            volumes=places.volumes,
            quality=places.quality,
            datalist=datalist,
            config=places.mmar / str((block.get("train") or {}).get("config", "config/config_train.json")),
            models=places.models,
            evaluation=places.evaluation,
            metrics=Path("data/metrics") / places.workspace,
            settings=_drop_secrets(block),
            provenance=read_provenance(datalist),
            resampled=places.resampled,
            corrections=places.corrections,
        )


def _drop_secrets(block: Mapping[str, Any]) -> dict[str, Any]:
    """The workspace's block without the key that its pseudonyms are made with."""
    convert = block.get("convert")
    if not isinstance(convert, dict):
        return dict(block)
    return {**block, "convert": {name: value for name, value in convert.items() if name != "pseudonym_key"}}


def installed_versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that make the numbers, by name."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree, say
            versions[name] = "not installed as a package"
    return versions
