"""The report's part about corrections: means by class and month, and cases by the names that they have today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from voxflow.reporting.corrections import tabulate_corrections
from voxflow.reporting.sources import ReportSources

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.reporting.tables import Table

COLUMNS = "received,state,reason,kind,link,role,author,case,patient,part,unit,number,version,sop_uid,digest"


@pytest.fixture
def sources(tmp_path: Path) -> ReportSources:
    rows = [
        "2026-10-02T08:00:00+00:00,superseded,,SEG,,radiologist,a1,p_1,p,training,1.2,0,1,9.1,d1",
        "2026-11-03T08:00:00+00:00,label,,SEG,,radiologist,a1,p_1,p,training,1.2,0,2,9.2,d2",
        "2026-11-04T08:00:00+00:00,label,,SEG,,radiologist,,,q,,1.5,0,1,9.3,d3",
        "2026-11-04T09:00:00+00:00,unchanged,as our mask,SEG,,radiologist,,,q,,1.5,0,,9.4,d4",
    ]
    changes = ["9.1,d1,spleen,0.9,1.5", "9.2,d2,spleen,0.7,2.5", "9.3,d3,spleen,0.8,0.5", "9.4,d4,spleen,1,0"]
    (tmp_path / "corrections.csv").write_text("\n".join([COLUMNS, *rows, ""]))
    (tmp_path / "classes.csv").write_text("\n".join(["sop_uid,digest,class,dice,outward_mm", *changes, ""]))
    cases = ["case,series_uid,volume,image", "p_2,1.2,1,a", "p_1,1.1,1,b", "many,1.7;1.8,1;1,c"]
    (tmp_path / "cases.csv").write_text("\n".join([*cases, ""]))
    folders = ("volumes", "quality", "datalist", "config", "models", "evaluation", "metrics", "corrections")
    values: dict[str, Any] = dict.fromkeys(folders, tmp_path)
    return ReportSources("clinic", "segmentation", **values)


def read_column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


def test_what_changed_is_averaged_by_class_and_by_month(sources: ReportSources) -> None:
    tables = tabulate_corrections(sources)
    assert read_column(tables.classes, "corrections") == ["3"]
    assert read_column(tables.classes, "Dice of the mask and its correction") == ["0.800"]
    assert read_column(tables.classes, "at most outward, mm") == ["2.500"]
    assert read_column(tables.months, "month") == ["2026-10", "2026-11"]
    assert read_column(tables.months, "Dice of the mask and its correction") == ["0.900", "0.750"]


def test_a_case_that_was_numbered_anew_has_its_present_name(sources: ReportSources) -> None:
    assert read_column(tabulate_corrections(sources).cases, "case") == ["q", "q", "p_2", "p_2"]
