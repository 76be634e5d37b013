"""A case whose workers died again and again is named with its reason, in conversion and in resampling."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks import convert, resample
from tests.case_losing_executor import REASON, CaseLosingExecutor
from tests.tasks.demo_cases import VOLUMES, run, write_volumes

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
    rows = list(csv.DictReader((VOLUMES / "conversion.csv").read_text().splitlines()))
    assert [row["reason"] for row in rows if row["verdict"] == "quarantined"] == [REASON]
    cases = list(csv.DictReader((VOLUMES / "cases.csv").read_text().splitlines()))
    assert [row["case"] for row in cases] == ["p0_1", "p2_1", "p3_1"]


def test_resampling_fails_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(cases=3)
    lose(monkeypatch, resample, 1)
    assert run(resample, monkeypatch) == 1
    assert f"1 case(s) could not be resampled\np1_1: {REASON}" in capsys.readouterr().err
    assert not Path("data/resampled/demo").exists()


def test_resampling_with_a_wrong_case_too_is_wrong_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(cases=3)
    (VOLUMES / "images/p0_1.nii.gz").write_bytes(b"no image")
    lose(monkeypatch, resample, 1)
    assert run(resample, monkeypatch) == 2
    printed = capsys.readouterr().err
    assert "2 case(s) can't be resampled\np0_1: data/volumes/demo/images/p0_1.nii.gz: " in printed
    assert f"p1_1: {REASON}" in printed
