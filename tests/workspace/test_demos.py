"""The workspaces that the repository ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxflow.config import load_workflow

MMARS = Path(__file__).resolve().parents[2] / "mmars"


@pytest.mark.parametrize(("name", "task"), [("spleen_demo", "segmentation"), ("chestxray_demo", "classification")])
def test_a_demo_is_a_whole_mmar_that_checks_clean(name: str, task: str) -> None:
    folder = MMARS / name
    files = ("config/config_validation.json", "docs/Readme.md", "docs/license.txt", "resources/log.config")
    assert all((folder / file).is_file() for file in files)
    config = folder / "config"
    workflow = load_workflow(config / "config_train.json", environment=config / "environment.json")
    assert workflow.task == task
    assert workflow.train.image_pipeline.args["data_file_base_dir"] == f"data/resampled/{name}"
