"""``voxflow add`` to a source in a known layout: it stays one data set of that layout, with the new cases in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.layouts.datasets import Patient, make_patients, write_array, write_decathlon, write_nnunet
from voxflow.cli.main import main
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.places import Places
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from pathlib import Path

PARAMS = (
    "workspaces:\n  demo:\n    {{task: segmentation, source: data/raw/demo, convert: {{layout: {}, overlap: last}}}}\n"
)
CHANNELS = ("T1", "FLAIR")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    (folder / "data/raw/demo").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    return folder


def make_others() -> list[Patient]:
    """Two patients that the source does not have."""
    return [
        replace(patient, name=name, images=tuple(image + 1 for image in patient.images))
        for name, patient in zip(("dan", "eve"), make_patients(2), strict=False)
    ]


def convert() -> list[str]:
    """The files of the cases that the whole source gives."""
    places = Places.of("demo")
    convert_folder(places.source, places.volumes, places.options_of("convert", ConvertOptions))
    return sorted(row["source"] for row in read_rows(places.volumes / "cases.csv") or [])


@pytest.mark.parametrize("depth", ["", "Dataset001_TUMOUR"])
def test_nnunets_data_stays_one_data_set_under_any_number(root: Path, depth: str) -> None:
    (root / "params.yaml").write_text(PARAMS.format("nnunet"))
    write_nnunet(root / "data/raw/demo", make_patients(2), CHANNELS)
    write_nnunet(root.parent / "arrived", make_others(), CHANNELS)
    assert len(convert()) == 3
    (root.parent / "arrived/Dataset001_TUMOUR").rename(root.parent / "arrived/Dataset007_MORE")
    folder = root.parent / "arrived" / depth.replace("001_TUMOUR", "007_MORE")
    assert main(["add", str(folder)]) == 0
    assert len(convert()) == 5
    content = json.loads((root / "data/raw/demo/Dataset001_TUMOUR/dataset.json").read_text())
    assert content["numTraining"] == 3


def test_other_classes_than_the_sources_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(PARAMS.format("nnunet"))
    write_nnunet(root / "data/raw/demo", make_patients(2), CHANNELS)
    write_nnunet(root.parent / "arrived", make_others(), CHANNELS[::-1])
    before = sorted((root / "data/raw/demo").rglob("*"))
    assert main(["add", str(root.parent / "arrived")]) == 2
    assert "'channel_names' are not those of data/raw/demo/Dataset001_TUMOUR/dataset.json" in capsys.readouterr().err
    assert sorted((root / "data/raw/demo").rglob("*")) == before


def test_lists_of_the_decathlon_are_joined(root: Path) -> None:
    (root / "params.yaml").write_text(PARAMS.format("msd"))
    write_decathlon(root / "data/raw/demo", make_patients(2), CHANNELS)
    write_decathlon(root.parent / "arrived", make_others(), CHANNELS)
    assert main(["add", str(root.parent / "arrived")]) == 0
    content = json.loads((root / "data/raw/demo/Task01_Tumour/dataset.json").read_text())
    assert content["numTraining"] == len(content["training"]) == 3
    assert content["test"] == ["./imagesTs/cid.nii.gz", "./imagesTs/eve.nii.gz"]
    assert len(convert()) == 5


def write_table(folder: Path, patients: list[Patient], name: str = "cases.csv") -> None:
    rows = ["case;image;label"]
    for patient in patients:
        write_array(folder / f"img/{patient.name}.nii.gz", patient.images[0])
        write_array(folder / f"lab/{patient.name}.nii.gz", patient.label)
        rows.append(f"{patient.name};img/{patient.name}.nii.gz;lab/{patient.name}.nii.gz")
    (folder / name).write_text("\n".join(rows) + "\n")


def test_rows_of_a_table_of_paths_are_joined(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(PARAMS.format("table"))
    source, arrived = root / "data/raw/demo", root.parent / "arrived"
    write_table(source, make_patients(2))
    write_table(arrived, make_others(), "more.csv")
    text = (source / "cases.csv").read_text()
    assert main(["add", str(arrived)]) == 2
    assert "2 tables of paths lie here, cases.csv and more.csv; keep one; nothing was added" in capsys.readouterr().err
    assert not (source / "img/dan.nii.gz").exists()
    assert (source / "cases.csv").read_text() == text
    (arrived / "more.csv").rename(arrived / "cases.csv")
    assert main(["add", str(arrived)]) == 0
    assert len(convert()) == 5


def test_a_row_whose_file_is_missing_is_named_and_the_others_are_added(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "params.yaml").write_text(PARAMS.format("table"))
    source, arrived = root / "data/raw/demo", root.parent / "arrived"
    write_table(source, make_patients(2))
    write_table(arrived, make_others())
    (arrived / "img/eve.nii.gz").unlink()
    assert main(["add", str(arrived)]) == 0
    assert "(volume, img/eve.nii.gz): line 3, column image: 'img/eve.nii.gz' is not there" in capsys.readouterr().err
    assert len(convert()) == 4


def test_a_row_that_is_called_as_one_of_the_source_adds_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "params.yaml").write_text(PARAMS.format("table"))
    source, arrived = root / "data/raw/demo", root.parent / "arrived"
    write_table(source, make_patients(2))
    write_table(arrived, make_others())
    (arrived / "cases.csv").write_text((arrived / "cases.csv").read_text().replace("dan;", "ann;"))
    assert main(["add", str(arrived)]) == 2
    said = capsys.readouterr().err
    assert "img/dan.nii.gz would be of no case there (line 5, column case: 2 rows are called 'ann')" in said
    assert len(convert()) == 3
