"""The DAG is run once a test session, small; the tests look at what it left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dag.repository import CHEST, SPLEEN, FirstRun, Repository, imported_modules
from tests.offline import namespace_command, record_connections


def make_small(params: dict[str, Any]) -> None:
    """Fewer patients, coarser voxels, a narrower network, one epoch: the same way through the graph in a minute."""
    params["samples"][SPLEEN]["patients"] = 8
    params["samples"][CHEST]["images"] = 48
    for workspace in (SPLEEN, CHEST):
        params["workspaces"][workspace]["train"]["set"] = {"epochs": 1}
    params["workspaces"][SPLEEN]["resample"]["spacing_mm"] = [3.0, 3.0, 6.0]
    params["workspaces"][SPLEEN]["train"]["set"]["train.model.args.nf_enc"] = [4, 8, 16, 32]


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    repository = Repository.copy_to(tmp_path_factory.mktemp("repository"))
    params = repository.params
    make_small(params)
    repository.set_params(params)
    logs = tmp_path_factory.mktemp("logs")
    log, modules = logs / "connections.txt", logs / "modules.txt"
    environment = record_connections(log, repository.environment) | {"VOXFLOW_MODULES": str(modules)}
    result = repository.run(*namespace_command(), "dvc", "repro", env=environment)
    connections = log.read_text().splitlines() if log.exists() else []
    return FirstRun(repository, result.stdout + result.stderr, connections, imported_modules(modules))


@pytest.fixture
def repository(first_run: FirstRun) -> Repository:
    return first_run.repository
