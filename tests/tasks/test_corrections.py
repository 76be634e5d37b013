"""Corrected masks come back from a real PACS, start a training when they are three, and stand in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml

from tasks.common.stage import Stage
from tasks.ops import answer, corrections, ingest
from tests.corrections.clinic import edit
from tests.dicom.objects import Series, random_values, save
from tests.pacs.orthanc import Orthanc, running
from tests.tasks.stage_runs import enter_clinic
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_WRONG_INPUT, ConfigError
from voxflow.reporting import ReportSources, write_report
from voxflow.tables import read_rows

WORKSPACE = "clinic_ct"
BLOCK: dict[str, Any] = {
    "task": "segmentation",
    "source": "data/raw",
    "ingest": {"pacs": "clinic", "days": None, "settle_s": 0},
    "corrections": {"days": None, "retrain_after": 3, "role": "radiologist"},
    "convert": {"modalities": ["CT"], "pseudonym_key": "synthetic"},
    "infer": {"engine": "torch", "overlays": 0},
}
FOLDER = Path("data/corrections") / WORKSPACE


def stage(name: str, **changes: Any) -> Stage:
    return Stage(WORKSPACE, name, BLOCK | changes)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = enter_clinic(tmp_path / "repository", WORKSPACE, monkeypatch)
    (folder / "data/raw").mkdir(parents=True)
    return folder


def send_study(orthanc: Orthanc, folder: Path, number: int) -> None:
    uid = f"1.2.840.99.{number}"
    changes = {"StudyInstanceUID": uid}
    series = Series(random_values((6, 24, 20), number), uid=f"{uid}.1", patient=f"patient {number}", changes=changes)
    orthanc.upload(series.write(folder / str(number)))


def send_correction(orthanc: Orthanc, folder: Path, number: int, **attributes: Any) -> None:
    """What a viewer sends: our mask of one study, as it lies in the PACS, with one corner more."""
    (mask,) = Path("data/answers").glob(f"{WORKSPACE}/1.2.840.99.{number}.1/*/*_seg.dcm")

    def change(frames: Any, _: list[int]) -> None:
        frames[:, :3, :3] = 1 - frames[:, :3, :3]

    orthanc.upload([save(edit(mask, change, **attributes), folder / f"correction-{number}.dcm")])


def read_state() -> Any:
    return json.loads((FOLDER / "state.json").read_text())


def list_states() -> list[str]:
    return [row["state"] for row in read_rows(FOLDER / "corrections.csv") or []]


def test_the_third_correction_makes_a_training_due(repository: Path, tmp_path: Path) -> None:
    with running(tmp_path / "orthanc") as orthanc:
        params = {"pacs": {"clinic": orthanc.web}, "workspaces": {WORKSPACE: BLOCK}}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        for number in (1, 2, 3):
            send_study(orthanc, tmp_path / "sent", number)
        assert ingest.run(stage("ingest")) == EXIT_OK
        assert answer.run(stage("answer")) == EXIT_OK
        assert len(orthanc.series("SEG")) == 3
        # Our own masks lie in the PACS now, as we sent them.
        assert corrections.run(stage("corrections")) == EXIT_OK
        assert (list_states(), read_state()["retrain"]) == ([], False)
        for number in (1, 2):
            send_correction(orthanc, tmp_path / "sent", number, ContentCreatorName="MARKER^NAME")
        assert ingest.run(stage("ingest")) == EXIT_OK
        assert len(list(Path("data/inbox").glob("*/*/*/"))) == 3, "corrections are no new studies"
        assert corrections.run(stage("corrections")) == EXIT_OK
        assert (list_states(), read_state()["retrain"]) == (["label", "label"], False)
        send_correction(orthanc, tmp_path / "sent", 3)
        assert corrections.run(stage("corrections")) == EXIT_OK
        state = read_state()
        assert (list_states(), state["retrain"], len(state["due"])) == (["label"] * 3, True, 3)
        before = (FOLDER / "corrections.csv").read_bytes()
        assert corrections.run(stage("corrections")) == EXIT_OK
        assert (FOLDER / "corrections.csv").read_bytes() == before, "nothing is looked at twice"
    assert corrections.mark_trained(stage("corrections"), state["due"]) == EXIT_OK
    assert not any(not row["trained"] for row in read_rows(FOLDER / "corrections.csv") or [])
    report = Path("report.html")
    write_report(ReportSources.of(stage("report")), report, Path("card.md"))
    page = report.read_text()
    assert "What people corrected" in page
    assert "MARKER" not in page
    assert "1.2.840.99" not in page


def test_a_folder_that_files_are_dropped_into(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop = repository / "drop"
    drop.mkdir()
    block = BLOCK | {"ingest": {"folder": "drop", "modalities": ["CT"], "settle_s": 0, "empty_folder": True}}
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {WORKSPACE: block}}))
    series = Series(random_values((6, 24, 20)), uid="1.2.840.99.1.1", changes={"StudyInstanceUID": "1.2.840.99.1"})
    series.write(drop)
    changed = stage("ingest", **block)
    assert ingest.run(changed) == answer.run(stage("answer", **block)) == EXIT_OK
    (mask,) = Path("data/answers").glob("*/*/*/*_seg.dcm")
    save(pydicom.dcmread(mask), drop / "as-we-sent-it.dcm")
    for size in (600, 900):  # before and after the modality, and without a series
        (drop / f"cut off {size}.dcm").write_bytes(mask.read_bytes()[:size])
    foreign = edit(mask, None, StudyInstanceUID="1.2.840.99.5")
    foreign.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.840.99.5.1"
    save(foreign, drop / "foreign.dcm")
    save(edit(mask, lambda frames, _: frames.__setitem__((slice(None), slice(3), slice(3)), 1)), drop / "edited.dcm")
    assert ingest.run(changed) == EXIT_OK
    assert corrections.run(stage("corrections", **block)) == EXIT_SOME_FAILED
    assert sorted(list_states()) == ["label", "quarantined"]
    said = capsys.readouterr().err
    assert "neither its study nor a series that it refers to has a mask of ours here" in said
    assert "drop: 2 file(s) are no DICOM that can be read, and stay there" in said


def test_nothing_says_where_corrections_come_from(repository: Path) -> None:
    block = {key: value for key, value in BLOCK.items() if key != "ingest"}
    Path("params.yaml").write_text(yaml.safe_dump({"workspaces": {WORKSPACE: block}}))
    with pytest.raises(ConfigError, match="name pacs or folder") as caught:
        corrections.run(Stage(WORKSPACE, "corrections", block))
    assert caught.value.exit_code == EXIT_WRONG_INPUT
