"""The stage validate: a report in any case, and no way past a critical check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import validate
from tests.tasks.demo_cases import GRID, VOLUMES, run, write_radiographs, write_volumes
from voxflow.volumes import Volume, write_volume

OUT, FAILED = Path("data/quality/demo"), Path("data/quality/demo.failed")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_good_volumes_pass(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    write_volumes()
    assert run(validate, monkeypatch) == 0
    report = json.loads((OUT / "report.json").read_text())
    assert (report["success"], report["cases"]) == (True, 8)
    assert {"name", "column", "severity", "success", "failures"} == set(report["checks"][0])
    assert len(pd.read_csv(OUT / "measurements.csv")) == 8
    assert (OUT / "docs/index.html").is_file()
    assert json.loads(Path("data/metrics/demo/validate.json").read_text())["failed"] == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"validate demo: {len(report['checks'])} checks on 8 cases → data/quality/demo\n")


def test_a_critical_failure_stops_and_leaves_its_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    mask = np.full(GRID.size, 9, dtype=np.uint8)
    write_volume(VOLUMES / "labels/p2_1.nii.gz", Volume(mask, GRID))
    assert run(validate, monkeypatch) == 1
    printed = capsys.readouterr().err
    assert "validate demo: error: 1 critical check(s) failed, see data/quality/demo.failed/report.json" in printed
    assert "label values are known: p2_1 (9)" in printed
    assert not OUT.exists()
    report = json.loads((FAILED / "report.json").read_text())
    assert report["checks"][0]["failures"] == {"p2_1": "9"}
    assert (FAILED / "docs/index.html").is_file()
    assert run(validate, monkeypatch, {"label_values": [1, 9]}) == 0
    assert not FAILED.exists()


def test_a_warning_is_listed_and_lets_the_graph_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes()
    write_volume(VOLUMES / "labels/p2_1.nii.gz", Volume(np.zeros(GRID.size, dtype=np.uint8), GRID))
    assert run(validate, monkeypatch) == 0
    assert "warning: label is not empty: p2_1 (0" in capsys.readouterr().err
    assert run(validate, monkeypatch, {"critical": ["label is not empty"]}) == 1


def test_radiographs_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    write_radiographs(cases=4)
    assert run(validate, monkeypatch, {"size": [16, 4096]}) == 0
    assert {"rows", "columns", "finding:mass"} <= set(pd.read_csv(OUT / "measurements.csv").columns)
