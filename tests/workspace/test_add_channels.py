"""``voxflow add`` with cases of several channels: what makes no case is said, the others come in."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import generate_uid

from tests.dicom.objects import Series, random_values
from voxflow.cli.main import main
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.places import Places
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

RULES = "{CT: {modality: CT}, PET: {modality: PT}}"
PARAMS = "workspaces:\n  demo:\n    {{task: segmentation, source: data/raw/demo, convert: {{pseudonym_key: x, {}}}}}\n"


def write_study(folder: Path, number: int, *names: str) -> dict[str, str]:
    """The SeriesInstanceUID of each series."""
    study, frame = generate_uid(), str(generate_uid())
    uids = {}
    for n, name in enumerate(names):
        changes = {"StudyInstanceUID": study, "Modality": name[:2], "Units": "BQML", "SeriesNumber": n + 1}
        stored = abs(random_values((3, 4, 5), 10 * number + n))
        series = Series(stored, patient=f"P{number}", frame=frame, changes=changes)
        series.write(folder / f"p{number}" / name)
        uids[name] = series.uid
    return uids


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    return folder


def convert() -> list[dict[str, str]]:
    places = Places.of("demo")
    convert_folder(places.source, places.volumes, places.options_of("convert", ConvertOptions))
    return read_rows(places.volumes / "cases.csv") or []


def test_whole_studies_come_in_and_others_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(PARAMS.format(f"channels: {RULES}"))
    write_study(root / "data/raw/demo", 1, "CT", "PT")
    arrived = root.parent / "arrived"
    write_study(arrived, 2, "CT", "PT")
    write_study(arrived, 3, "CT")
    write_study(arrived, 4, "CT", "CT2", "PT")
    write_study(arrived, 5, "CT", "PT")
    damaged = sorted((arrived / "p5/PT").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-8])
    assert main(["add", str(arrived)]) == 0
    said = capsys.readouterr().err
    assert "1 new patients, 1 cases" in said
    assert "no case: lacks the channel PET of CT, PET: no series fits its rule" in said
    assert "2 series fit the channel CT (series 1, series 2)" in said
    assert "whose series is quarantined" in said
    assert len(convert()) == 2


def test_rows_of_a_table_come_in_with_their_paths(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(PARAMS.format("cases: cases.csv, keep_names: true"))
    source, arrived = root / "data/raw/demo", root.parent / "arrived"
    write_study(source, 1, "CT", "PT")
    (source / "cases.csv").write_text("case;CT;PET\na;p1/CT;p1/PT\n")
    uids = write_study(arrived, 2, "CT", "PT")
    write_study(arrived, 3, "CT", "PT")
    assert main(["add", str(arrived)]) == 2
    assert "`cases` names a table below the source" in capsys.readouterr().err
    (arrived / "cases.csv").write_text("case,CT,PET\na,p2/CT,p2/PT\n")
    assert main(["add", str(arrived)]) == 2
    assert "names cases that the workspace has already: a" in capsys.readouterr().err
    (arrived / "cases.csv").write_text(f"case,CT,PET\nb,p2/CT,{uids['PT']}\nc,p3\\CT,p3/PT#1\n")
    assert main(["add", str(arrived)]) == 0
    assert (source / "cases.csv").read_text().splitlines() == [
        "case;CT;PET",
        "a;p1/CT;p1/PT",
        f"b;arrived/p2/CT;{uids['PT']}",
        "c;arrived/p3/CT;arrived/p3/PT#1",
    ]
    assert [row["case"] for row in convert()] == ["a", "b", "c"]
