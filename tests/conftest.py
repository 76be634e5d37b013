"""Shared fixtures: where real images lie, and skipping with a reason when they do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
STORE_VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what trainings prepare out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _mappings_stay_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions leave the way back from pseudonyms on the machine; tests leave nothing in the working folder."""
    monkeypatch.setenv("VOXFLOW_MAPPING_FOLDER", str(tmp_path_factory.getbasetemp() / "mapping"))


@pytest.fixture(autouse=True)
def _stores_stay_apart() -> Iterator[None]:
    """MLflow puts the store that it was told of into the environment, for whatever comes next."""
    before = os.environ.get(STORE_VARIABLE)
    yield
    os.environ.pop(STORE_VARIABLE, None)
    if before is not None:
        os.environ[STORE_VARIABLE] = before


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Find a folder of real images, or skip the test that asks for it."""

    def find(name: str) -> Path:
        base = Path(os.environ.get("VOXFLOW_DATA", ROOT.parent / "shared" / "data"))
        if not (base / name).is_dir():
            pytest.skip(f"real images {name!r} are not at {base}; set VOXFLOW_DATA to the folder that holds them")
        return base / name

    return find
