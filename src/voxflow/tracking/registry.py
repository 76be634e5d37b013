"""Reads the MLflow model registry: which models it holds, and the files of one of them."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError, VoxflowError
from voxflow.files import atomic_directory
from voxflow.tracking.locking import sqlite_path
from voxflow.tracking.store import configure_mlflow, first_line_of, store_failures
from voxflow.tracking.tracker import SQLITE, get_tracking_uri

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKPOINT = "models/model.pt"  # of the run's artifacts, kept by the stage train


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        name: the model.
        version: its number.
        run_id: the run that made it; empty when it is not known.
        aliases: such as "champion".
        description: the version's, else the model's.
    """

    name: str
    version: str
    run_id: str = ""
    aliases: tuple[str, ...] = ()
    description: str = ""


def list_model_versions() -> list[ModelVersion]:
    """Every version of every registered model, by name, then number; empty where the store was never used.

    Raises:
        VoxflowError: the store can't be reached.
    """
    uri = get_tracking_uri()
    if uri.startswith(SQLITE) and not sqlite_path(uri).is_file():
        return []  # MLflow would make one
    versions: list[ModelVersion] = query_store(_list_versions)
    return versions


def download_model(model: ModelVersion, folder: Path) -> list[Path]:
    """Bring a version's files: ``model.fzn.onnx``, and ``model.pt`` where its run kept the checkpoint.

    Args:
        model: one of :func:`list_model_versions`.
        folder: made whole or not at all; what is there is replaced.

    Raises:
        DataError: the version holds no ONNX model.
        VoxflowError: the store can't be reached.
    """
    with atomic_directory(folder) as out:
        query_store(lambda: _download_files(model, out))
        names = sorted(path.name for path in out.iterdir())
    return [folder / name for name in names]


def _list_versions() -> list[ModelVersion]:
    from mlflow import MlflowClient

    client = MlflowClient()
    result = []
    for model in client.search_registered_models(max_results=1000):
        aliases: dict[str, list[str]] = {}
        for alias, version in dict(model.aliases).items():
            aliases.setdefault(str(version), []).append(alias)
        versions = client.search_model_versions(f"name='{model.name}'")
        for version in sorted(versions, key=lambda v: int(v.version)):
            number = str(version.version)
            description = version.description or model.description or ""
            result.append(
                ModelVersion(model.name, number, version.run_id or "", tuple(aliases.get(number, ())), description)
            )
    return result


def _download_files(model: ModelVersion, out: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        files = Path(download_artifacts(artifact_uri=f"models:/{model.name}/{model.version}", dst_path=scratch))
        onnx = sorted(files.rglob("*.onnx"))
        if not onnx:
            raise DataError(f"version {model.version} of {model.name} holds no ONNX file, the form that Voxflow keeps")
        folder, _, name = CHECKPOINT.rpartition("/")
        artifacts = MlflowClient().list_artifacts(model.run_id, folder) if model.run_id else []
        if any(artifact.path == CHECKPOINT for artifact in artifacts):
            shutil.copy(download_artifacts(run_id=model.run_id, artifact_path=CHECKPOINT, dst_path=scratch), out / name)
        _write_single_file(onnx[0], out / "model.fzn.onnx")


def _write_single_file(source: Path, target: Path) -> None:
    """MLflow keeps the weights beside the graph, under a name that the graph tells; here a model is one file."""
    import onnx

    onnx.save(onnx.load(str(source)), str(target))


def query_store(work: Callable[[], Any]) -> Any:
    """Do work on the store, and return what it returns.

    Args:
        work: called once, when MLflow points at the store.

    Raises:
        VoxflowError: the store can't be reached.
    """
    try:
        with warnings.catch_warnings():
            # MLflow opens its database with options that SQLAlchemy deprecates; that is not this project's to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            configure_mlflow()
            return work()
    except store_failures() as error:
        raise VoxflowError(
            f"the model registry at {get_tracking_uri()} can't be used: {first_line_of(error)}"
        ) from error
