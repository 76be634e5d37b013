"""Finds the address of a run: MLflow's page if one is served, else its folder of files.

Where pages are served is known to every process of the repository: a tracking server says it itself, and `make serve`
writes its address to a file, which workers and flows of other shells read, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from voxflow.errors import DataError
from voxflow.files import read_json_or_none, write_json
from voxflow.places import find_home
from voxflow.redaction import hide_secrets
from voxflow.tracking.locking import sqlite_path
from voxflow.tracking.registry import query_store
from voxflow.tracking.tracker import SQLITE, get_tracking_uri, is_server

# Set by a person whose browser reaches the pages at another address than the programs do.
PAGES_VARIABLE = "VOXFLOW_MLFLOW_URL"
# Written by `make serve`, whose pages show a store that is a database, for as long as it runs.
PAGES_FILE = Path(".voxflow/pages.json")
# Else MLflow's pages begin with the language models, and hide trainings until a person finds the switch.
TRAININGS_QUERY = "workflowType=machine_learning"


@dataclass(frozen=True)
class RunPages:
    """The addresses at which one run can be looked at.

    Attributes:
        run: its page, or the address of its folder of files.
        experiment: the page of all runs of its workspace; None: no pages are served.
        report: the page of the report that hangs on it; None: no pages are served.
        files: the address of its files, to which a file's path is added; None: no pages are served.
    """

    run: str
    experiment: str | None = None
    report: str | None = None
    files: str | None = None


def find_pages_address() -> str | None:
    """The address of MLflow's pages: what ``VOXFLOW_MLFLOW_URL`` says, else the tracking server's, else `make serve`'s.

    Returns:
        The address without a slash at its end and without a password; None where no pages are known to be served.
    """
    address = os.environ.get(PAGES_VARIABLE, "")
    if not address:
        address = get_tracking_uri() if is_server(get_tracking_uri()) else _read_pages_file()
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
    files = f"{base}/get-artifact?run_uuid={quote(run_id)}&path="
    report = f"{run}/artifactPath/report.html"
    run, experiment, report = (f"{page}?{TRAININGS_QUERY}" for page in (run, f"{experiment}/runs", report))
    return RunPages(run, experiment, report, files)


def write_pages_file(address: str) -> None:
    """Tell every process of the repository where MLflow's pages are served."""
    write_json(PAGES_FILE, {"mlflow": address})


def remove_pages_file() -> None:
    """Tell them that the pages are no longer served."""
    PAGES_FILE.unlink(missing_ok=True)


def _read_pages_file() -> str:
    content = read_json_or_none(find_home() / PAGES_FILE)
    return str(content.get("mlflow") or "") if isinstance(content, dict) else ""


def _read_run_info(run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient().get_run(run_id).info
