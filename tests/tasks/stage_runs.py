"""Runs the stages of a small workspace in this process, without MLflow, and reads what they wrote."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import yaml

from tasks.common.stage import Stage
from tests.flows.repository import ROOT
from tests.inference.models import save_unet
from tests.pacs.orthanc import PASSWORD
from voxflow.tracking import NullTracker
from voxflow.workspace import create_workspace, recognise_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from numpy.typing import NDArray

STAGES = ("convert", "validate", "resample", "split", "train", "export", "evaluate", "infer")


def new_workspace(name: str, epochs: int, epochs_a_validation: int, engines: Sequence[str]) -> dict[str, Any]:
    """Make a workspace of the folder raw, whose training is short; returns its block of params.yaml."""
    create_workspace(name, Path("raw"), "auto", layout=recognise_source(Path("raw")))
    block: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text())["workspaces"][name]
    block["convert"] |= {"pseudonym_key": "k", "keep_names": True, "mapping": False}
    block["split"] = {"seed": 7, "testing": 2, "validation": 1}
    values = {"epochs": epochs, "num_training_epoch_per_valid": epochs_a_validation}
    block["train"] |= {"set": values, "schedule": "epochs"}
    del block["train"]["max_minutes"]
    block["export"] = {"engines": list(engines), "parity_cases": 1}
    block["infer"] |= {"key": "testing", "dicom_seg": False}
    return block


def enter_clinic(folder: Path, workspace: str, patch: pytest.MonkeyPatch) -> Path:
    """Go into a new repository whose workspace has an exported model, and knows the password of a PACS."""
    folder.mkdir()
    patch.chdir(folder)
    patch.setenv("VOXFLOW_PACS_CLINIC_PASSWORD", PASSWORD)
    patch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    save_unet(folder / "mmars" / workspace / "models/export/model.pt")
    return folder


def run_stages(
    names: Sequence[str], block: dict[str, Any], patch: pytest.MonkeyPatch, workspace: str = "brain"
) -> None:
    """Run stages of a workspace."""
    for name in names:
        program = importlib.import_module(f"tasks.{name}")
        if hasattr(program, "begin_run"):
            patch.setattr(program, "begin_run", lambda *_, **__: contextlib.nullcontext(NullTracker("")))
        assert program.run(Stage(workspace, name, block)) == 0, name


def read_array(path: Path) -> NDArray[Any]:
    """Read a volume by nibabel."""
    return np.asanyarray(nibabel.load(path).dataobj)
