"""Orthanc, Prefect and MLflow at once: studies in, SEGs back, nothing twice and nothing lost."""

from __future__ import annotations

import contextlib
import time
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from tasks.ops.serve import AT_WORK
from tests import postgresql
from tests.dicom.objects import Series, random_values
from tests.flows.conftest import Server, prefect, until
from tests.flows.department import Department
from tests.flows.repository import environment, make_repository
from tests.inference.models import save_unet
from tests.pacs.orthanc import PASSWORD, Orthanc, running
from voxflow.locks import try_lock
from voxflow.pacs import LEDGER_FOLDER, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
# So many that there is time to stop a program between the first object and the last.
SLICES = 40


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
            database = stack.enter_context(postgresql.start_server())
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
            "parameters": {"workspace": WORKSPACE, "retry_delay_seconds": 5},
            "schedules": [{"interval": 15, "active": True}],
        }
        for name in ("ingest", "infer")
    ]


def send(orthanc: Orthanc, folder: Path, numbers: range) -> None:
    for number in numbers:
        uid = f"1.2.840.99.{number}"
        series = Series(
            random_values((SLICES, 24, 20), number),
            uid=f"{uid}.1",
            patient=str(number),
            changes={"StudyInstanceUID": uid},
        )
        orthanc.upload(series.write(folder / str(number)))


def send_at_once(repository: Path, orthanc: Orthanc, folder: Path, numbers: range) -> None:
    """Send while no ingest looks: half a series would be answered now, and again when it has grown."""
    with contextlib.ExitStack() as turn:
        name = f"{WORKSPACE}.ingest"
        until(lambda: turn.enter_context(try_lock(name, repository / ".voxflow")), "a moment without an ingest")
        send(orthanc, folder, numbers)


def count_answers(orthanc: Orthanc) -> dict[str, int]:
    """How many SEG objects lie beside each study."""
    try:
        objects = orthanc.series("SEG")
    except OSError:
        return {}
    counts: dict[str, int] = {}
    for series in objects:
        counts[series["study"]] = counts.get(series["study"], 0) + len(series["instances"])
    return counts


def completed_since(server: Server, name: str, moment: datetime) -> bool:
    runs = server.flow_runs(f"{name} {WORKSPACE}")
    completed = [run for run in runs if run["state_type"] == "COMPLETED"]
    return any(datetime.fromisoformat(run["start_time"]) > moment for run in completed)


def stop_midway(repository: Path, module: str, is_midway: Callable[[], bool]) -> psutil.Process:
    """Wait until a flow runs a program, and stop it as soon as it is in the middle of its work."""

    def caught() -> psutil.Process | None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:3] != ["-m", module] or process.cwd() != str(repository):
                    continue
                while process.status() != psutil.STATUS_ZOMBIE:
                    if is_midway():
                        process.suspend()
                        if is_midway():
                            return process
                        process.resume()
                    time.sleep(0.001)
        return None

    caught_process: psutil.Process = until(caught, f"{module} in the middle of its work")
    return caught_process


def is_fetching(repository: Path) -> bool:
    """Whether a series has come in part."""
    return any((repository / "data/inbox" / WORKSPACE / ".partial-ingest").glob("*/*.dcm"))


def is_answering(repository: Path, already: int) -> bool:
    """Whether masks are being made, and those of another series were made in the same round."""
    answers = repository / "data/answers" / WORKSPACE
    return any(answers.glob(".partial-*")) and len(list(answers.glob("[0-9]*"))) > already


def awaiting_retry(server: Server) -> Any:
    """The errand of ``infer`` that waits for its next try."""
    waits = {"name": {"any_": [f"answer {WORKSPACE}"]}, "state": {"name": {"any_": ["AwaitingRetry"]}}}
    return server.post("/task_runs/filter", task_runs=waits)


def studies(last: int) -> dict[str, int]:
    """One SEG beside each study up to this one."""
    return {f"1.2.840.99.{number}": 1 for number in range(1, last + 1)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_studies_come_back_with_a_seg_once_whatever_is_killed(
    department: tuple[Department, Orthanc], tmp_path: Path
) -> None:
    running_department, orthanc = department
    server, repository = running_department.server, running_department.repository
    send(orthanc, tmp_path / "sent", range(1, 4))
    prefect(server, repository, "deploy", "--all")
    until(lambda: count_answers(orthanc) == studies(3), "SEGs beside the first studies")

    send_at_once(repository, orthanc, tmp_path / "sent", range(4, 7))
    stop_midway(repository, "tasks.ops.ingest", lambda: is_fetching(repository))
    killed = runs_at_work(repository)
    running_department.kill_worker()
    assert objects_in(repository) < 6 * SLICES
    running_department.start()

    program = stop_midway(repository, "tasks.ops.answer", lambda: is_answering(repository, already=3))
    orthanc.kill()
    program.resume()
    (errand,) = until(lambda: awaiting_retry(server), "another try after the PACS was lost")
    orthanc.start()
    until(lambda: count_answers(orthanc) == studies(6), "SEGs beside the studies of the broken round")
    errand = until(lambda: find_ended(server, errand["id"]), "the end of the errand")
    assert (errand["state_type"], errand["run_count"] > 1) == ("COMPLETED", True)

    send_at_once(repository, orthanc, tmp_path / "sent", range(7, 10))
    stop_midway(repository, "tasks.ops.answer", lambda: is_answering(repository, already=6))
    killed |= runs_at_work(repository)
    running_department.kill_worker()
    assert count_answers(orthanc) != studies(9)
    running_department.start()
    until(lambda: count_answers(orthanc) == studies(9), "SEGs beside all studies")
    another_round(server)
    assert count_answers(orthanc) == studies(9)
    assert objects_in(repository) == 9 * SLICES
    with Ledger.of(WORKSPACE, repository / LEDGER_FOLDER) as ledger:
        assert ledger.count_states() == {"taken": 9, "failed": 0, "made": 0, "sent": 9, "kept": 0, "refused": 0}
    flow_runs = server.post("/flow_runs/filter", flow_runs={"id": {"any_": sorted(killed)}})
    assert {flow_run["state_type"] for flow_run in flow_runs} == {"COMPLETED"}
    assert max(flow_run["run_count"] for flow_run in flow_runs) == 2
    assert not killed & runs_at_work(repository)
    health = f"http://127.0.0.1:{running_department.ports[1]}/health"
    with urllib.request.urlopen(health, timeout=30) as response:
        assert response.status == 200


def another_round(server: Server) -> None:
    """Wait for runs of both flows that begin now or later."""
    now = datetime.now(UTC)
    until(lambda: all(completed_since(server, name, now) for name in ("ingest", "infer")), "another round")


def find_ended(server: Server, task_run: str) -> Any:
    (record,) = server.post("/task_runs/filter", task_runs={"id": {"any_": [task_run]}})
    return record if record["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None


def runs_at_work(repository: Path) -> set[str]:
    """The ids of flow runs whose processes live."""
    return {path.stem for path in (repository / AT_WORK).glob("*.lock")}


def objects_in(repository: Path) -> int:
    """How many objects are in the inbox, each in its place."""
    return len(list((repository / "data/inbox" / WORKSPACE).glob("[0-9]*/*/*.dcm")))
