"""One SQLite store for all tests, since making its tables takes seconds; each test finds it without models."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from voxflow.tracking import begin_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        with begin_run("first"):
            pass
    return folder


@pytest.fixture
def root(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository whose tracking store knows no model."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_store}/mlflow.db")
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    yield tmp_path
    with contextlib.suppress(MlflowException):
        MlflowClient(f"sqlite:///{empty_store}/mlflow.db").delete_registered_model("demo")
