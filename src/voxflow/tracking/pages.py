"""Finds the address of a run: MLflow's page if one is served, else its folder of files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from voxflow.errors import DataError
from voxflow.redaction import hide_secrets
from voxflow.tracking.locking import sqlite_path
from voxflow.tracking.registry import query_store
from voxflow.tracking.tracker import SQLITE, get_tracking_uri, is_server

# Set by `make serve`, whose pages show a store that is a database.
PAGES_VARIABLE = "VOXFLOW_MLFLOW_URL"


@dataclass(frozen=True)
class RunPages:
    """The addresses at which one run can be looked at.

    Attributes:
        run: its page, or the address of its folder of files.
        experiment: the page of all runs of its workspace; None: no pages are served.
        report: the page of the report that hangs on it; None: no pages are served.
    """

    run: str
    experiment: str | None = None
    report: str | None = None


def find_pages_address() -> str | None:
    """The address of MLflow's pages: the tracking server's, else what ``VOXFLOW_MLFLOW_URL`` says.

    Returns:
        The address without a slash at its end and without a password; None where no pages are known to be served.
    """
    address = get_tracking_uri() if is_server(get_tracking_uri()) else os.environ.get(PAGES_VARIABLE, "")
    return hide_secrets(address).rstrip("/") if address.startswith(("http://", "https://")) else None


def find_run_pages(run_id: str) -> RunPages:
    """Find the addresses at which a run can be looked at.

    Raises:
        VoxflowError: the store can't be reached, or does not have the run.
    """
    if get_tracking_uri().startswith(SQLITE) and not sqlite_path(get_tracking_uri()).is_file():
        raise DataError(
            "is not there, and the run is in it", path=sqlite_path(get_tracking_uri())
        )  # MLflow would make one
    info = query_store(lambda: _read_run_info(run_id))
    base = find_pages_address()
    if base is None:
        return RunPages(hide_secrets(str(info.artifact_uri)))
    # The routes of MLflow's single page; they stand behind the "#", which no server sees.
    experiment = f"{base}/#/experiments/{quote(str(info.experiment_id))}"
    run = f"{experiment}/runs/{quote(run_id)}"
    return RunPages(run, experiment, f"{run}/artifactPath/report.html")


def _read_run_info(run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient().get_run(run_id).info
