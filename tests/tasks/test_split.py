"""The stage split: Clara's datalist, folds, and numbers that add up."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tasks import split
from tests.tasks.demo_cases import run, write_radiographs, write_volumes
from voxflow.datalist import Datalist

RESAMPLED, OUT = Path("data/resampled/demo"), Path("data/datalists/demo")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_volumes_are_split_into_claras_datalist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(RESAMPLED)
    assert run(split, monkeypatch, {"seed": 7, "testing": 2, "validation": 1}) == 0
    content = json.loads((OUT / "dataset_0.json").read_text())
    assert {
        key: content[key] for key in ("name", "modality", "labels", "numTraining", "numTest", "tensorImageSize")
    } == {
        "name": "demo",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "numTraining": 5,
        "numTest": 2,
        "tensorImageSize": "3D",
    }
    datalist = Datalist.read(OUT / "dataset_0.json", RESAMPLED)
    datalist.check_files()
    assert {key: len(cases) for key, cases in datalist.parts.items()} == {
        "training": 4,
        "validation": 1,
        "testing": 2,
        "inference": 1,
    }
    assert all(case.label is None for case in datalist.cases("inference"))
    table = pd.read_csv(OUT / "split.csv")
    assert table.groupby("part").size().to_dict() == {"inference": 1, "testing": 2, "training": 4, "validation": 1}
    metrics = json.loads(Path("data/metrics/demo/split.json").read_text())
    assert (metrics["training"], metrics["testing_patients"]) == (4, 2)
    assert capsys.readouterr().err.splitlines()[-1].endswith("→ data/datalists/demo")


def test_radiographs_carry_their_findings_and_folds_rotate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_radiographs(RESAMPLED)
    table["task"] = "classification"
    assert run(split, monkeypatch, {"testing": 0.25, "validation": 0.25, "folds": 3}) == 0
    first = Datalist.read(OUT / "dataset_0.json", RESAMPLED)
    assert first.label_format == (1, 1)
    by_case = table.set_index("case")
    for case in first.cases("training"):
        assert case.label == tuple(by_case.loc[case.id, ["finding:mass", "finding:effusion"]])
    folds = [Datalist.read(OUT / f"fold_{number}.json", RESAMPLED) for number in (1, 2, 3)]
    assert all(fold.parts["testing"] == first.parts["testing"] for fold in folds)
    validated = sorted(case.id for fold in folds for case in fold.cases("validation"))
    assert validated == sorted(case.id for key in ("training", "validation") for case in first.cases(key))
    assert "warning" not in capsys.readouterr().err


def test_a_finding_that_a_part_lacks_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_radiographs(RESAMPLED)
    table.assign(**{"finding:effusion": [1] + [0] * 39}).to_csv(RESAMPLED / "cases.csv", index=False)
    assert run(split, monkeypatch) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("warning: ") and line.endswith("has no case with effusion") for line in lines) == 2


def test_leakage_is_a_failed_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_volumes(RESAMPLED).assign(patient="p0")
    table.to_csv(RESAMPLED / "cases.csv", index=False)
    parts = dict(zip(table["case"], ["training", "validation", "testing", *["training"] * 5], strict=True))
    monkeypatch.setattr(split, "split_cases", lambda *_: [parts])
    assert run(split, monkeypatch) == 1
    assert "leakage: patient is in one part only: p0 (3)" in capsys.readouterr().err
    assert not OUT.exists()


def test_too_few_patients_are_wrong_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(RESAMPLED, cases=3)
    assert run(split, monkeypatch) == 2
    assert "split demo: error: 2 labelled patients are too few" in capsys.readouterr().err


def test_a_missing_table_says_which_stage_writes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(split, monkeypatch) == 2
    assert "data/resampled/demo/cases.csv: file not found" in capsys.readouterr().err
