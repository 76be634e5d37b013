"""A case whose workers died again and again is listed with its reason, in conversion and in resampling."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks import convert, resample
from tests.case_losing_executor import REASON, AllLosingExecutor, CaseLosingExecutor
from tests.tables import read_table
from tests.tasks.demo_cases import VOLUMES, run, write_volumes
from voxflow.files import read_json_or_none as read_json

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lose(monkeypatch: pytest.MonkeyPatch, program: ModuleType, number: int) -> None:
    monkeypatch.setattr(program, "open_executor", lambda _: contextlib.nullcontext(CaseLosingExecutor(number)))


def test_conversion_lists_it_as_quarantined_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes(Path("raw"), cases=4, unlabelled=4)
    lose(monkeypatch, convert, 1)
    assert run(convert, monkeypatch, {"pseudonym_key": "k", "keep_names": True}) == 3
    rows = read_table(VOLUMES / "conversion.csv")
    assert [row["reason"] for row in rows if row["verdict"] == "quarantined"] == [REASON]
    cases = read_table(VOLUMES / "cases.csv")
    assert [row["case"] for row in cases] == ["p0_1", "p2_1", "p3_1"]


def test_resampling_lists_it_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes(cases=3)
    lose(monkeypatch, resample, 1)
    assert run(resample, monkeypatch) == 3
    out = Path("data/resampled/demo")
    assert read_json(out / "failures.json") == [{"case": "p1_1", "reason": REASON}]
    assert [row["case"] for row in read_table(out / "cases.csv")] == ["p0_1", "p2_1"]


def test_resampling_that_lost_every_case_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(cases=2)
    (VOLUMES / "images/p0_1.nii.gz").write_bytes(b"no image")
    lose(monkeypatch, resample, 1)
    assert run(resample, monkeypatch) == 2, "one of them is wrong input"
    printed = capsys.readouterr().err
    assert "2 case(s) can't be resampled\np0_1: data/volumes/demo/images/p0_1.nii.gz: " in printed
    assert f"p1_1: {REASON}" in printed
    monkeypatch.setattr(resample, "open_executor", lambda _: contextlib.nullcontext(AllLosingExecutor()))
    assert run(resample, monkeypatch) == 1
    assert not Path("data/resampled/demo").exists()
