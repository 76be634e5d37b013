"""Shared fixtures: where real images lie, stores of a test's own; and how tests are shared out to processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.gpu.hiding import GPU
from voxflow.machine import has_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")

# Folders whose tests share what takes long to prepare (a run of the whole DAG, a Prefect server, trained models): one
# process runs all of them. Of the other folders, the tests of a file stay together.
SHARED_FOLDERS = ("dag", "flows", "migrate", "mmar", "promotion", "pacs")
# What takes longest begins first, so that no process has long to go when the others have ended.
LONGEST = ("dag", "flows", "workspace", "training", "test_offline.py", "tasks", "mmar", "migrate")

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many test processes as cores; more threads than that only wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands test processes whole files, and whole folders where the tests of a folder share something."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = path.split("/")[1]
        return folder if folder in SHARED_FOLDERS else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FolderScheduling:
    """Share out the tests of ``pytest -n 2``; pytest-xdist's own loadgroup does nothing with pytest 9.2."""
    config.option.loadscopereorder = False
    return FolderScheduling(config, log)


def pytest_configure() -> None:
    """Hide a GPU from all tests but those that are marked ``gpu``: they tell what a processor computes."""
    GPU.hide()


@pytest.fixture(autouse=True)
def _gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show the GPU to a test that is marked ``gpu``, or skip it."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    with GPU.shown():
        if not has_gpu():
            pytest.skip("needs an NVIDIA GPU that torch sees")
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest where several processes run the tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    name = item.path.relative_to(TESTS).parts[0]
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


@pytest.fixture(scope="session", autouse=True)
def _separate_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what trainings prepare out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _separate_mappings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions leave the way back from pseudonyms on the machine; tests leave nothing in the working folder."""
    monkeypatch.setenv("VOXFLOW_MAPPING_FOLDER", str(tmp_path_factory.getbasetemp() / "mapping"))


@pytest.fixture(autouse=True)
def _separate_store() -> Iterator[None]:
    """MLflow puts the store that it was told of into the environment, for whatever comes next."""
    before = {name: os.environ.get(name) for name in STORE_VARIABLES}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Find a folder of real images, or skip the test that asks for it."""

    def find(name: str) -> Path:
        base = Path(os.environ.get("VOXFLOW_DATA", ROOT.parent / "shared" / "data"))
        if not (base / name).is_dir():
            pytest.skip(f"real images {name!r} are not at {base}; set VOXFLOW_DATA to the folder that holds them")
        return base / name

    return find
