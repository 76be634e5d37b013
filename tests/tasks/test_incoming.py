"""The programs of the flows against a real PACS: cut in the middle, they lose nothing and take nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.common.stage import Stage
from tasks.ops import answer, ingest
from tests.dicom.objects import Series, random_values
from tests.flows.repository import environment
from tests.pacs.orthanc import Orthanc, running
from tests.tasks.stage_runs import enter_clinic
from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_SOME_FAILED, EXIT_WRONG_INPUT, ConfigError, PacsError

WORKSPACE = "clinic_ct"
SLICES = 40
BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": "data/raw",
    "ingest": {"pacs": "clinic", "modalities": ["CT"], "days": None, "settle_s": 0},
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "infer": {"engine": "torch", "overlays": 0},
}


def stage(name: str, **changes: Any) -> Stage:
    return Stage(WORKSPACE, name, BLOCK | changes)


def write_params(**pacs: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"pacs": pacs, "workspaces": {WORKSPACE: BLOCK}}))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_clinic(tmp_path / "repository", WORKSPACE, monkeypatch)


def send(orthanc: Orthanc, folder: Path, number: int) -> None:
    uid = f"1.2.840.99.{number}"
    series = Series(random_values((SLICES, 24, 20), number), uid=f"{uid}.1", changes={"StudyInstanceUID": uid})
    orthanc.upload(series.write(folder / str(number)))


def beside(orthanc: Orthanc) -> list[str]:
    """The studies that hold SEG objects, each as often as it does."""
    return sorted(series["study"] for series in orthanc.series("SEG") for _ in series["instances"])


@pytest.mark.parametrize("protocol", ["web", "dimse"])
def test_cuts_on_both_sides_lose_nothing_and_repeat_nothing(repository: Path, tmp_path: Path, protocol: str) -> None:
    with running(tmp_path / "orthanc") as orthanc:
        write_params(clinic=getattr(orthanc, protocol))
        for number in (1, 2):
            send(orthanc, tmp_path / "sent", number)
        kill_in_the_middle(repository)
        assert ingest.run(stage("ingest")) == EXIT_OK
        assert len(list(repository.glob("data/inbox/*/*/*/*.dcm"))) == 2 * SLICES
        assert not list(repository.glob("data/inbox/*/.partial-ingest/*"))

        orthanc.kill()
        with pytest.raises(PacsError, match=r"^clinic \("):
            answer.run(stage("answer"))
        orthanc.start()
        assert answer.run(stage("answer")) == EXIT_OK
        studies = ["1.2.840.99.1", "1.2.840.99.2"]
        assert beside(orthanc) == studies
        assert (ingest.run(stage("ingest")), answer.run(stage("answer"))) == (EXIT_OK, EXIT_OK)
        assert beside(orthanc) == studies


def kill_in_the_middle(repository: Path) -> None:
    """Kill an ingest when the first object has come, and its series not yet."""
    command = [sys.executable, "-m", "tasks.ops.ingest", WORKSPACE]
    with subprocess.Popen(command, cwd=repository, env=environment() | dict(os.environ)) as process:
        while not list(repository.glob("data/inbox/*/.partial-ingest/*/1.*.dcm")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)


def test_masks_stay_here_on_request(repository: Path, tmp_path: Path) -> None:
    Series(random_values((SLICES, 24, 20)), uid="1.2.840.99.5.1").write(tmp_path / "drop")
    Series(random_values((1, 24, 20)), uid="1.2.840.99.6.1").write(tmp_path / "drop/lonely")
    dropped = {"ingest": {"folder": str(tmp_path / "drop"), "settle_s": 0}}
    assert ingest.run(stage("ingest", **dropped)) == EXIT_OK
    assert answer.run(stage("answer", **dropped)) == EXIT_SOME_FAILED
    assert len(list(repository.glob(f"data/answers/{WORKSPACE}/1.2.840.99.5.1/*/*_seg.dcm"))) == 1
    assert answer.run(stage("answer", **dropped)) == EXIT_OK


@pytest.mark.usefixtures("repository")
def test_a_pacs_from_which_nothing_ever_came_is_a_failure(tmp_path: Path) -> None:
    with running(tmp_path / "orthanc") as orthanc:
        send(orthanc, tmp_path / "sent", 1)
        write_params(clinic=orthanc.dimse | {"own_aet": "NOBODY"})
        assert ingest.run(stage("ingest")) == EXIT_FAILURE
        write_params(clinic=orthanc.dimse)
        assert ingest.run(stage("ingest")) == EXIT_OK
        send(orthanc, tmp_path / "sent", 2)
        write_params(clinic=orthanc.dimse | {"own_aet": "NOBODY"})
        assert ingest.run(stage("ingest")) == EXIT_SOME_FAILED


@pytest.mark.usefixtures("repository")
def test_a_workspace_without_a_source_is_told_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"workspaces\.clinic_ct\.ingest: nothing says where studies come from") as e:
        ingest.run(stage("ingest", ingest=None))
    assert e.value.exit_code == EXIT_WRONG_INPUT
