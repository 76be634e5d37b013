"""A run says which flow run it belongs to, and a flow run where the run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from voxflow.errors import DataError, VoxflowError
from voxflow.tracking import (
    begin_run,
    continue_run,
    find_pages_address,
    find_run_pages,
    remove_pages_file,
    write_pages_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOW_RUN, PAGE = "01a1ffa7-4f0c", "http://127.0.0.1:4200/runs/flow-run/01a1ffa7-4f0c"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # By its whole path: MLflow keeps stores open by their names.
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for name in ("VOXFLOW_MLFLOW_URL", "VOXFLOW_FLOW_RUN", "VOXFLOW_FLOW_RUN_URL"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="module")
def run_id(store: Path) -> str:
    (store / "report.html").write_text("page")
    with begin_run("spleen") as tracker:
        tracker.log_artifact(store / "report.html")
    return tracker.run_id


def tags(run_id: str) -> dict[str, str]:
    from mlflow import MlflowClient

    run_tags = MlflowClient().get_run(run_id).data.tags
    return {name: value for name, value in run_tags.items() if "flow_run" in name}


def test_a_run_leads_back_to_the_flow_run_that_trained_and_to_the_last_one(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tags(run_id) == {}
    monkeypatch.setenv("VOXFLOW_FLOW_RUN", FLOW_RUN)
    monkeypatch.setenv("VOXFLOW_FLOW_RUN_URL", PAGE)
    with begin_run("spleen") as tracker:
        pass
    monkeypatch.setenv("VOXFLOW_FLOW_RUN", "later")
    monkeypatch.delenv("VOXFLOW_FLOW_RUN_URL")
    with continue_run(tracker.run_id):
        pass
    assert tags(tracker.run_id) == {"flow_run": FLOW_RUN, "flow_run_url": PAGE, "last_flow_run": "later"}


def test_without_a_server_a_run_is_its_folder_of_files(run_id: str) -> None:
    pages = find_run_pages(run_id)
    folder = Path(unquote(urlsplit(pages.run).path))
    assert (folder / "report.html").read_text() == "page"
    assert pages.experiment is None
    assert pages.report is None


def test_where_pages_are_served_a_run_is_one_of_them(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXFLOW_MLFLOW_URL", "http://me:secret@mlflow.local:5000/")
    pages = find_run_pages(run_id)
    experiment = "http://mlflow.local:5000/#/experiments/1"
    assert pages.experiment == f"{experiment}/runs?workflowType=machine_learning"
    # Without the query, MLflow frames a run in its view for language models.
    assert pages.run == f"{experiment}/runs/{run_id}?workflowType=machine_learning"
    assert pages.report == f"{experiment}/runs/{run_id}/artifactPath/report.html?workflowType=machine_learning"
    assert pages.files == f"http://mlflow.local:5000/get-artifact?run_uuid={run_id}&path="


def test_every_process_of_the_repository_knows_the_pages_that_are_served(run_id: str) -> None:
    write_pages_file("http://127.0.0.1:5001")
    try:
        assert find_run_pages(run_id).run.startswith(f"http://127.0.0.1:5001/#/experiments/1/runs/{run_id}?")
    finally:
        remove_pages_file()
    assert find_run_pages(run_id).run.startswith("file://")


def test_the_address_for_browsers_wins_over_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert find_pages_address() == "http://mlflow:5000"
    monkeypatch.setenv("VOXFLOW_MLFLOW_URL", "https://runs.hospital/mlflow/")
    assert find_pages_address() == "https://runs.hospital/mlflow"


@pytest.mark.usefixtures("store")
def test_a_run_that_is_not_there_is_told() -> None:
    with pytest.raises(VoxflowError, match="nosuchrun"):
        find_run_pages("nosuchrun")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(DataError, match=r"mlflow\.db: is not there"):
        find_run_pages("anything")
    assert list(tmp_path.iterdir()) == []
