"""Shared fixtures: small MMARs, one of them trained and exported once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.mmar.workspaces import classification_mmar, segmentation_mmar
from voxflow.cli.apps import export_main, train_main

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ["accelerator=cpu", "precision=fp32", "threads=1", "workers=0"]


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A segmentation and a classification, trained and exported; not to be changed."""
    roots = {}
    with pytest.MonkeyPatch.context() as patch:
        # Set by whatever ran before in this process, it would make the trainings keep a record.
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, make in (("segmentation", segmentation_mmar), ("classification", classification_mmar)):
            root = roots[name] = make(tmp_path_factory.mktemp(name) / "mmar")
            assert train_main(["-m", str(root), "--set", *QUICK]) == 0
            assert export_main(["--model_file_path", str(root / "models")]) == 0
    return roots


@pytest.fixture
def segmentation(trained_once: dict[str, Path], tmp_path: Path) -> Path:
    """A trained and exported segmentation of one's own."""
    return _copy(trained_once["segmentation"], tmp_path)


@pytest.fixture
def classification(trained_once: dict[str, Path], tmp_path: Path) -> Path:
    """A trained and exported classification of one's own."""
    return _copy(trained_once["classification"], tmp_path)


def _copy(source: Path, tmp_path: Path) -> Path:
    """MMARs are cloned with cp -r; the data stays where it is."""
    shutil.copytree(source, tmp_path / "clone", ignore=shutil.ignore_patterns("data"))
    return tmp_path / "clone"
