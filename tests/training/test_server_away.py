"""A real MLflow server that dies while a training runs: the training goes on, and what it missed is sent later."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import reserve_port
from tests.tables import read_table
from tests.training.conftest import volume_config, workflow_of
from voxflow.tracking import begin_run
from voxflow.training import TrainOptions, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from voxflow.datalist import Datalist
    from voxflow.training import DataFacts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Server:
    """An MLflow server of its own process group."""

    def __init__(self, folder: Path) -> None:
        self.port = reserve_port()
        self.uri, self._folder = f"http://127.0.0.1:{self.port}", folder
        self.start()

    def start(self) -> None:
        stores = ["--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        stores += ["--artifacts-destination", str(self._folder / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(self.port), "--workers", "1"]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven more processes that no test needs
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/health")
                connection.getresponse()
            except (http.client.HTTPException, OSError):
                assert self._process.poll() is None, (self._folder / "server.log").read_text()
                time.sleep(0.5)
            else:
                connection.close()
                return
        raise AssertionError((self._folder / "server.log").read_text())

    def kill(self) -> None:
        if self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    mlflow = Server(tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield mlflow
    mlflow.kill()


def before(real: Callable[..., None], number: int, act: Callable[[], None]) -> Callable[..., None]:
    """``real``, with something that happens just before its ``number``-th call."""
    calls: list[int] = []

    def log_metrics(values: Mapping[str, float], step: int | None = None) -> None:
        calls.append(1)
        if len(calls) == number:
            act()
        real(values, step=step)

    return log_metrics


def test_a_server_that_dies_costs_a_line_and_no_number(
    server: Server, tmp_path: Path, cubes: Datalist, facts: DataFacts, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    options = TrainOptions(accelerator="cpu", threads=1, workers=0, seed=3)
    workflow = workflow_of(volume_config(), tmp_path, num_training_epoch_per_valid=1)
    with begin_run("cubes", params={"seed": 3}) as tracker:
        patched: Any = tracker
        patched.log_metrics = before(tracker.log_metrics, 3, server.kill)
        result = train(workflow, cubes, options, tmp_path / "m", facts=facts, tracker=tracker)
        tracker.log_artifact(tmp_path / "m/curves.csv")
    assert (result.ending, result.epochs) == ("finished", 6)
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "MLflow could not record metrics; this and what follows is kept in" in warnings[0]
    assert [path.stem for path in (tmp_path / ".voxflow/unsent").iterdir()] == [tracker.run_id]
    server.start()
    with begin_run("other"):
        pass
    assert "sent to MLflow what an earlier run of cubes could not" in capfd.readouterr().err
    client = MlflowClient()
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    history = sorted((m.step, m.value) for m in client.get_metric_history(tracker.run_id, "train_loss"))
    written = [(int(row["epoch"]), float(row["train_loss"])) for row in read_table(tmp_path / "m/curves.csv")]
    assert history == [(epoch, pytest.approx(loss, rel=1e-4)) for epoch, loss in written]
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["curves.csv"]
    assert not list((tmp_path / ".voxflow/unsent").iterdir())
