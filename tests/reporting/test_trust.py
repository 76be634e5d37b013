"""The report shows the calibration, risk and coverage, and the cases to review; nothing where nobody calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.reporting.pages import write_review
from tests.reporting.stages import write_segmentation
from tests.trust.cohorts import calibrate, calibrate_radiographs
from voxflow.reporting.page import write_report
from voxflow.reporting.trust import describe_trust
from voxflow.tables import write_table
from voxflow.trust import trace_risk

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.reporting.sources import ReportSources


@pytest.fixture
def sources(tmp_path: Path) -> ReportSources:
    return write_segmentation(tmp_path)


def read_page(sources: ReportSources) -> str:
    write_report(sources, sources.evaluation / "report.html", sources.evaluation / "model_card.md")
    return (sources.evaluation / "report.html").read_text(encoding="utf-8")


def test_a_workspace_without_a_calibration_has_no_such_part(sources: ReportSources) -> None:
    assert 'id="trust"' not in read_page(sources)


def test_calibration_risk_and_worklist_stand_in_the_report(sources: ReportSources) -> None:
    write_review(sources.evaluation)
    section = describe_trust(sources)
    levels = [dict(zip(section.calibration.columns, row, strict=True)) for row in section.calibration.rows]
    assert [row["confidence asked for"] for row in levels] == ["80%", "90%", "95%"]
    assert {row["patients"] for row in levels} == {"60"}
    bounds = [float(row["mean bound of Dice"]) for row in levels]
    assert bounds == sorted(bounds, reverse=True)
    assert len(section.charts) == 1
    assert section.review.rows[0][2] == "review"
    page = read_page(sources)
    assert 'id="trust"' in page
    assert 'href="infer/review.html"' in page


def test_a_calibration_without_a_case_leaves_the_page_whole(sources: ReportSources) -> None:
    calibrate([]).write(sources.evaluation / "test/trust.json")
    assert 'id="trust"' not in read_page(sources)


def test_reliability_of_findings_stands_in_the_report(sources: ReportSources) -> None:
    calibrate_radiographs(["mass"], [{}]).write(sources.evaluation / "test/trust.json")
    row = {"finding": "mass", "on": "unseen cases", "brier_before": 0.123456, "brier_after": 0.1, "slope": 0.5}
    write_table(sources.evaluation / "test/reliability.csv", [row], list(row))
    table = describe_trust(sources).reliability
    assert table.columns == ("by", "finding", "on", "brier before", "brier after", "slope")
    assert table.rows == (("this model", "mass", "unseen cases", "0.123", "0.100", "0.500"),)
    page = read_page(sources)
    assert "Probabilities of findings before and after calibration" in page
    assert "lower bound" not in page


def test_risk_falls_where_agreement_finds_the_bad_masks() -> None:
    dices = np.linspace(0.2, 0.95, 50)
    risks = [risk for _, risk in trace_risk(dices.tolist(), dices.tolist())]
    assert risks == sorted(risks)
    assert risks[-1] == pytest.approx(1 - dices.mean())
