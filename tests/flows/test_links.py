"""From a flow run to the MLflow run and the report, and back, without a byte of DVC's outputs changing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tasks.ops import leash
from tests.flows.conftest import Server, until
from tests.flows.repository import make_repository
from tests.ports import reserve_port

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE = "spleen_demo"
TRAIN = """
import sys
from pathlib import Path
from voxflow.tracking import begin_run, write_run_file
with begin_run(sys.argv[1]) as tracker:
    write_run_file(Path("mmars", sys.argv[1], "models/train/run.json"), tracker, sys.argv[1])
"""
REPORT = """
import sys
from pathlib import Path
from voxflow.tracking import continue_run, read_run_file
page = Path("mmars", sys.argv[1], "eval/report.html")
page.parent.mkdir(parents=True, exist_ok=True)
page.write_text("the report")
with continue_run(read_run_file(Path("mmars", sys.argv[1], "models/train/run.json"))) as tracker:
    tracker.log_artifact(page)
"""
GRAPH = """
stages:
  train:
    foreach: ${workspaces}
    do:
      cmd: python train.py ${key}
      outs: ["mmars/${key}/models/train"]
  report:
    foreach: ${workspaces}
    do:
      cmd: python report.py ${key}
      deps: ["mmars/${key}/models/train"]
      outs: ["mmars/${key}/eval/report.html"]
"""


@pytest.fixture
def training(server: Server, tmp_path: Path) -> tuple[Path, str, int]:
    """A repository after one flow run, the id of that, and the port that MLflow's pages were promised on."""
    repository, port = make_repository(tmp_path / "repository"), reserve_port()
    for name, text in (("dvc.yaml", GRAPH), ("train.py", TRAIN), ("report.py", REPORT)):
        (repository / name).write_text(text)
    write_results(repository)
    variables = server.environment | {"VOXFLOW_MLFLOW_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "flows.pipeline", WORKSPACE]
    assert subprocess.run(command, cwd=repository, env=variables, check=False).returncode == 0
    return repository, str(server.flow_runs(f"pipeline {WORKSPACE}")[0]["id"]), port


def write_results(repository: Path) -> None:
    scores = repository / f"data/metrics/{WORKSPACE}/evaluate.json"
    overlays = repository / f"mmars/{WORKSPACE}/eval/test/overlays"
    for folder in (scores.parent, overlays):
        folder.mkdir(parents=True, exist_ok=True)
    scores.write_text('{"mean_dice": 0.9384, "cases": 3, "failed_cases": 0}')
    Image.new("RGB", (1200, 300)).save(overlays / "worst_a.png")


def get(address: str, **headers: str) -> bytes:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return bytes(response.read())


@pytest.mark.timeout(600)
def test_links_lead_there_and_back(server: Server, training: tuple[Path, str, int]) -> None:
    repository, flow_run, port = training
    page = f"{server.address.removesuffix('/api')}/runs/flow-run/{flow_run}"
    run_id = json.loads((repository / f"mmars/{WORKSPACE}/models/train/run.json").read_text())["run_id"]
    text = until(lambda: server.artifacts(flow_run).get("markdown"), "the links")["data"]
    links = dict(re.findall(r"\[([^]]+)\]\(([^)]+)\)", text))
    report_file = repository / f"mmars/{WORKSPACE}/eval/report.html"
    run_page, query = links["MLflow run"].split("?")
    assert links[f"Report of {WORKSPACE}"] == f"{run_page}/artifactPath/report.html?{query}"
    assert f"`{report_file}` on the machine that ran the flow" in text
    assert all(address.startswith("http://") for address in links.values())
    assert text.startswith("## mean Dice 0.938 on 3 unseen cases, 0 failed\n")
    assert server.artifacts(flow_run)["image"]["data"].startswith("data:image/jpeg;base64,")
    assert run_page == f"http://127.0.0.1:{port}/#/experiments/1/runs/{run_id}"
    index = (repository / "data/index.html").read_text()
    assert page in index
    assert links["MLflow run"] in index

    pages = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    pages += ["--backend-store-uri", "sqlite:///mlflow.db"]
    log = repository.parent / "mlflow.log"
    with (
        log.open("w") as out,
        leash.start(pages, cwd=repository, environment=server.environment, output=out) as process,
    ):
        until(lambda: is_healthy(port) or process.poll() is not None, "the start of MLflow")
        base = f"http://127.0.0.1:{port}"
        run = json.loads(get(f"{base}/api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]
        # The page shows the file by this request.
        report = get(f"{base}/get-artifact?path=report.html&run_uuid={run_id}")
        leash.let_go(process)
    assert report == b"the report"
    assert run["info"]["experiment_id"] == "1"
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["flow_run"], tags["flow_run_url"]) == (flow_run, page)
    assert (tags["last_flow_run"], tags["last_flow_run_url"]) == (flow_run, page)
    assert b"<html" in get(page, Accept="text/html")
    assert get(f"{server.address}/flow_runs/{flow_run}")


def is_healthy(port: int) -> bool:
    try:
        return bool(get(f"http://127.0.0.1:{port}/health"))
    except OSError:
        return False


@pytest.mark.timeout(600)
def test_for_dvc_a_flow_has_changed_nothing(training: tuple[Path, str, int], server: Server) -> None:
    repository, flow_run, _ = training
    lock = (repository / "dvc.lock").read_bytes()
    assert flow_run.encode() not in lock
    dvc = [sys.executable, "-m", "dvc", "repro"]
    for arguments in ([f"report@{WORKSPACE}"], ["--force", "--single-item", f"report@{WORKSPACE}"]):
        subprocess.run([*dvc, *arguments], cwd=repository, env=server.environment, check=True)
        assert (repository / "dvc.lock").read_bytes() == lock
    outputs = [path for path in (repository / "mmars").rglob("*") if path.is_file()]
    assert outputs
    assert not [path for path in outputs if flow_run.encode() in path.read_bytes()]
