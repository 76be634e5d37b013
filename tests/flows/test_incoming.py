"""Orthanc, Prefect and MLflow at once: studies in, SEGs back, nothing twice and nothing lost."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tests import postgresql
from tests.dicom.objects import Series, stored
from tests.flows.conftest import PATIENCE_S, Server, prefect, until
from tests.flows.repository import environment, make_repository
from tests.inference.models import save_unet
from tests.pacs.orthanc import PASSWORD, Orthanc, running
from tests.tasks.test_serve import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKSPACE = "clinic_ct"
PARAMS = {
    "workspaces": {
        WORKSPACE: {
            "task": "segmentation",
            "source": "data/raw",
            "ingest": {"pacs": "clinic", "modalities": ["CT"], "days": None, "settle_s": 0},
            "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
            "infer": {"engine": "torch", "overlays": 0},
        }
    }
}
SLICES = 12


class Department:
    """``make serve`` in a repository, with what it needs to be killed and started again."""

    def __init__(self, repository: Path, variables: dict[str, str]) -> None:
        self.repository, self.variables = repository, variables
        self.ports = [free_port(), free_port()]
        address = f"http://127.0.0.1:{self.ports[0]}/api"
        self.server = Server(address, variables | {"PREFECT_API_URL": address})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tasks.serve"]
        command += ["--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])]
        log = self.repository.parent / f"serve-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=self.repository, env=self.variables, stdout=out, stderr=subprocess.STDOUT
            )
        until(lambda: "Ctrl-C ends" in log.read_text() or self.has_ended, "the start of everything")
        assert not self.has_ended, log.read_text()
        until(lambda: self.server.post("/work_pools/filter"), "the worker's pool")

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill_worker(self) -> None:
        """Kill the worker and what it runs, without a word; the others end, as ``make serve`` says."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if "worker" in command and "leash.py" not in " ".join(command):
                    for each in [*child.children(recursive=True), child]:
                        each.kill()
        assert self.process.wait(PATIENCE_S) != 0

    def stop(self) -> None:
        if self.process is not None and not self.has_ended:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_S)


@pytest.fixture
def department(tmp_path: Path) -> Iterator[tuple[Department, Orthanc]]:
    with contextlib.ExitStack() as stack:
        orthanc = stack.enter_context(running(tmp_path / "orthanc"))
        variables = environment() | {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "VOXFLOW_PACS_CLINIC_PASSWORD": PASSWORD,
            "OMP_NUM_THREADS": "1",
        }
        with contextlib.suppress(pytest.skip.Exception):
            database = stack.enter_context(postgresql.running())
            variables["PREFECT_API_DATABASE_CONNECTION_URL"] = database.url("prefect", "asyncpg")
            variables["MLFLOW_TRACKING_URI"] = database.url("mlflow", "psycopg2")
        repository = make_repository(tmp_path / "repository")
        (repository / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"pacs": {"clinic": orthanc.web}}))
        (repository / "prefect.yaml").write_text(yaml.safe_dump({"name": "voxflow", "deployments": deployments()}))
        save_unet(repository / "mmars" / WORKSPACE / "models/export/model.pt")
        department = Department(repository, variables)
        stack.callback(department.stop)
        department.start()
        yield department, orthanc


def deployments() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "entrypoint": f"flows/{name}.py:{name}",
            "work_pool": {"name": "voxflow"},
            "parameters": {"workspace": WORKSPACE, "retry_delay_seconds": 2},
            "schedules": [{"interval": 15, "active": True}],
        }
        for name in ("ingest", "infer")
    ]


def send(orthanc: Orthanc, folder: Path, numbers: range) -> None:
    for number in numbers:
        uid = f"1.2.840.99.{number}"
        series = Series(
            stored((SLICES, 24, 20), number), uid=f"{uid}.1", patient=str(number), changes={"StudyInstanceUID": uid}
        )
        orthanc.upload(series.write(folder / str(number)))


def answered(orthanc: Orthanc) -> dict[str, int]:
    """How many SEG objects lie beside each study."""
    try:
        found = orthanc.series("SEG")
    except OSError:
        return {}
    counts: dict[str, int] = {}
    for each in found:
        counts[each["study"]] = counts.get(each["study"], 0) + len(each["instances"])
    return counts


def completed(server: Server, name: str) -> int:
    try:
        runs = server.flow_runs(f"{name} {WORKSPACE}")
    except OSError:
        return 0
    return sum(run["state_type"] == "COMPLETED" for run in runs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_studies_come_back_with_a_seg_once_whatever_is_killed(
    department: tuple[Department, Orthanc], tmp_path: Path
) -> None:
    running_department, orthanc = department
    server = running_department.server
    send(orthanc, tmp_path / "sent", range(1, 4))
    prefect(server, running_department.repository, "deploy", "--all")
    first = {f"1.2.840.99.{number}": 1 for number in range(1, 4)}
    until(lambda: answered(orthanc) == first, "SEGs beside the first studies")

    rounds = {name: completed(server, name) for name in ("ingest", "infer")}
    until(lambda: all(completed(server, name) > rounds[name] + 1 for name in rounds), "a second round")
    assert answered(orthanc) == first

    send(orthanc, tmp_path / "sent", range(4, 7))
    orthanc.kill()
    running_department.kill_worker()
    time.sleep(1)
    orthanc.start()
    running_department.start()
    send(orthanc, tmp_path / "sent", range(7, 9))
    everything = {f"1.2.840.99.{number}": 1 for number in range(1, 9)}
    until(lambda: answered(orthanc) == everything, "SEGs beside all studies")
    rounds = {name: completed(server, name) for name in ("ingest", "infer")}
    until(lambda: all(completed(server, name) > rounds[name] for name in rounds), "a last round")
    assert answered(orthanc) == everything
    inbox = running_department.repository / "data/inbox" / WORKSPACE
    assert len(list(inbox.glob("*/*/*.dcm"))) == 8 * SLICES
    health = f"http://127.0.0.1:{running_department.ports[1]}/health"
    with urllib.request.urlopen(health, timeout=30) as response:
        assert response.status == 200
