"""The DAG is run once a test session, small; the tests look at what it left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dag.repository import CHEST, SPLEEN, FirstRun, Repository
from tests.offline import network_namespace, recorded_connections


def make_small(params: dict[str, Any]) -> None:
    """Fewer patients, one epoch: the same way through the graph, in a minute or two."""
    params["samples"][SPLEEN]["patients"] = 8
    params["samples"][CHEST]["images"] = 48
    for workspace in (SPLEEN, CHEST):
        params["workspaces"][workspace]["train"]["set"] = {"epochs": 1}


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    repository = Repository.copy_to(tmp_path_factory.mktemp("repository"))
    params = repository.params
    make_small(params)
    repository.set_params(params)
    log = tmp_path_factory.mktemp("offline") / "connections.txt"
    result = repository.run(*network_namespace(), "dvc", "repro", env=recorded_connections(log, repository.environment))
    return FirstRun(repository, result.stdout + result.stderr, log.read_text().splitlines() if log.exists() else [])


@pytest.fixture
def repository(first_run: FirstRun) -> Repository:
    return first_run.repository
