"""``voxflow add``: patients come in, the test part stays, a patient who would leak is refused, nothing is half done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.common.case_table import read_cases
from voxflow.cli.main import main
from voxflow.datalist import SplitOptions, split_cases
from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.files import write_json
from voxflow.geometry import Geometry
from voxflow.places import Places
from voxflow.quality import measure_cases
from voxflow.volumes import Volume, write_volume

GRID = Geometry.from_parts((12, 10, 6), (1, 1, 3))
PARAMS = """\
# Kept as it is.
workspaces:
  demo:
    task: segmentation
    source: data/raw/demo
    convert: {pseudonym_key: secret, keep_names: true, patient_pattern: "(p[0-9]+)"}
    split:
      seed: 7         # decides
      testing: 0.25
      validation: 0.2
"""


def write_patients(folder: Path, numbers: range, study: str = "a") -> None:
    for n in numbers:
        values = np.random.default_rng((n, ord(study))).integers(-1000, 300, GRID.size).astype(np.int16)
        mask = np.zeros(GRID.size, dtype=np.uint8)
        mask[3:8, 3:7, 2:5] = 1
        write_volume(folder / f"images/p{n}_{study}.nii.gz", Volume(values, GRID))
        write_volume(folder / f"labels/p{n}_{study}.nii.gz", Volume(mask, GRID))


def convert_and_split() -> dict[str, str]:
    """What the stages convert, validate and split leave; returns the part of every case."""
    places = Places.of("demo")
    convert_folder(places.source, places.volumes, places.options_of("convert", ConvertOptions))
    table = read_cases(places.volumes / "cases.csv")
    split = split_cases(table, places.options_of("split", SplitOptions))[0]
    places.datalists.mkdir(parents=True, exist_ok=True)
    table.assign(part=table["case"].map(split))[["case", "patient", "part"]].to_csv(
        places.datalists / "split.csv", index=False
    )
    places.quality.mkdir(parents=True, exist_ok=True)
    measure_cases(table, places.volumes).to_csv(places.quality / "measurements.csv", index=False)
    write_json(places.datalists / "dataset_0.json", {})
    return split


@pytest.fixture(scope="module")
def finished_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 12 patients whose graph has run."""
    root = tmp_path_factory.mktemp("add") / "repository"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VOXFLOW_MAPPING_FOLDER", str(root / ".voxflow/mapping"))
        for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
            subprocess.run(command, check=True)
        shutil.copy(Path(__file__).parents[2] / ".gitignore", root)
        (root / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
        (root / "params.yaml").write_text(PARAMS)
        write_patients(root / "data/raw/demo", range(12))
        convert_and_split()
    return root


@pytest.fixture
def root(finished_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished_workspace, tmp_path / "repository", symlinks=True)
    monkeypatch.chdir(tmp_path / "repository")
    monkeypatch.setenv("VOXFLOW_MAPPING_FOLDER", str(tmp_path / "mapping"))
    return tmp_path / "repository"


def parts() -> dict[str, str]:
    table = pd.read_csv("data/datalists/demo/split.csv", dtype=str)
    return dict(zip(table["case"], table["part"], strict=True))


def test_patients_are_added_versioned_and_the_test_part_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = parts()
    tested = sorted(case for case, part in before.items() if part == "testing")
    assert len(tested) == 3
    write_patients(root.parent / "arrived", range(20, 60))
    assert main(["add", str(root.parent / "arrived")]) == 0
    output = capsys.readouterr().err
    assert "40 new patients, 40 cases, 40 labelled, 80 files → data/raw/demo" in output
    assert "the test part stays as it is (3 patients)" in output
    assert (root / "data/raw/demo.dvc").is_file()
    text = (root / "params.yaml").read_text()
    assert text.startswith("# Kept as it is.")
    assert "# decides" in text
    assert len(yaml.safe_load(text)["workspaces"]["demo"]["split"]["testing"]) == 3
    after = convert_and_split()
    assert sorted(case for case, part in after.items() if part == "testing") == tested
    assert len(after) == 52
    ignored = subprocess.run(["git", "check-ignore", "data/raw/demo.dvc"], check=False, capture_output=True)
    assert ignored.returncode == 1


def test_without_add_the_test_part_would_move() -> None:
    """Why it is listed by name: a share of more patients is another choice."""
    few = pd.DataFrame({"case": [f"p{n}_1" for n in range(12)], "patient": [f"p{n}" for n in range(12)], "label": "x"})
    many = pd.DataFrame({"case": [f"p{n}_1" for n in range(52)], "patient": [f"p{n}" for n in range(52)], "label": "x"})
    options = SplitOptions(seed=7, testing=0.25)
    first, second = (
        {case for case, part in split_cases(table, options)[0].items() if part == "testing"} for table in (few, many)
    )
    assert first != second


def test_a_patient_of_the_test_part_is_refused_and_nothing_is_added(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = next(case for case, part in parts().items() if part == "testing")
    number = int(leaking.split("_", maxsplit=1)[0].removeprefix("p"))
    write_patients(root.parent / "arrived", range(20, 23))
    write_patients(root.parent / "arrived", range(number, number + 1), study="b")
    before = sorted(path for path in (root / "data/raw").rglob("*"))
    assert main(["add", str(root.parent / "arrived")]) == 2
    output = capsys.readouterr().err
    assert "leakage: " in output
    assert "is in the test part" in output
    assert sorted(path for path in (root / "data/raw").rglob("*")) == before
    assert (root / "params.yaml").read_text() == PARAMS


def test_an_image_of_the_test_part_under_another_name_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = next(case for case, part in parts().items() if part == "testing")
    (image,) = (root / "data/raw/demo/images").glob(f"{leaking}*")
    arrived = root.parent / "arrived/images"
    arrived.mkdir(parents=True)
    shutil.copy(image, arrived / "p99_a.nii.gz")
    assert main(["add", str(root.parent / "arrived")]) == 2
    assert f"(as {leaking}) shows the same pixels as the test part" in capsys.readouterr().err


def test_a_new_study_of_a_training_patient_is_welcome(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training_case = next(case for case, part in parts().items() if part == "training")
    number = int(training_case.split("_", maxsplit=1)[0].removeprefix("p"))
    write_patients(root.parent / "arrived", range(number, number + 1), study="b")
    assert main(["add", str(root.parent / "arrived"), "--to", "demo"]) == 0
    assert "0 new patients and more studies of 1, 1 cases" in capsys.readouterr().err


def test_a_file_of_the_same_name_is_not_replaced(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training_case = next(case for case, part in parts().items() if part == "training")
    number = int(training_case.split("_", maxsplit=1)[0].removeprefix("p"))
    write_patients(root.parent / "other", range(number, number + 1), study="z")
    arrived = root.parent / "arrived/images"
    arrived.mkdir(parents=True)
    shutil.copy(next((root.parent / "other/images").iterdir()), arrived / f"p{number}_a.nii.gz")
    assert main(["add", str(root.parent / "arrived")]) == 2
    assert "would replace a file of another content" in capsys.readouterr().err


def test_where_dvc_fails_nothing_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "dvc.yaml").write_text("stages: {make: {cmd: 'true', outs: [data/raw/demo]}}")
    write_patients(root.parent / "arrived", range(20, 22))
    assert main(["add", str(root.parent / "arrived")]) == 1
    assert "DVC could not take data/raw/demo in" in capsys.readouterr().err
    assert not list((root / "data/raw/demo/images").glob("p2[01]*"))
    assert (root / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("source: data/raw/demo", "source: /data/elsewhere"), "is not in this repository"),
        (("workspaces:", "samples: {demo: {}}\nworkspaces:"), "the stage sample makes"),
        (("workspaces:", "workspaces:\n  second: {}"), "--to WORKSPACE is needed: demo, second are known"),
    ],
)
def test_what_can_not_be_added_to_is_said(
    root: Path, change: tuple[str, str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "params.yaml").write_text(PARAMS.replace(*change))
    (root.parent / "arrived").mkdir()
    assert main(["add", str(root.parent / "arrived")]) == 2
    assert line in capsys.readouterr().err
