"""The scores of a report: classes against measures with units, dots that lead to cases, and a word on few positives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.reporting.stages import CASES, put, write_classification, write_segmentation
from voxflow.reporting.scores import draw_dice_strips, tabulate_classes
from voxflow.reporting.sections import draw_roc, tabulate_cases, tabulate_scores
from voxflow.viewing import write_viewer

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.reporting.sources import ReportSources


@pytest.fixture
def sources(tmp_path: Path) -> ReportSources:
    sources = write_segmentation(tmp_path)
    scores = {"dice_spleen": 0.85, "surface_dice_spleen": 0.9, "hd95_spleen": 4.5, "volume_error_ml_spleen": -3.25}
    put(sources.metrics / "evaluate.json", {"mean_dice": 0.85, "cases": 3, "missed_spleen": 1, **scores})
    intervals = {"mean_dice": [0.8, 0.9], "dice_spleen": [0.81, 0.91]}
    put(sources.evaluation / "test/summary.json", {"intervals_95": intervals, "surface_tolerance_mm": 1.5})
    return sources


def test_classes_stand_against_measures_with_their_units(sources: ReportSources) -> None:
    table = tabulate_classes(sources)
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "class": "spleen",
        "Dice": "0.850 (0.810\xa0to\xa00.910)",
        "surface Dice at 1.5 mm": "0.900",
        "95 % Hausdorff distance, mm": "4.500",
        "volume error, ml": "-3.250",
        "cases missed": "1",
    }
    assert [row[0] for row in tabulate_scores(sources).rows] == ["mean dice", "cases"]


def test_each_case_is_a_dot_that_opens_it_where_the_viewer_has_it(sources: ReportSources) -> None:
    (chart,) = draw_dice_strips(sources)
    assert chart.svg.count("<circle") == 3  # one Dice is not defined
    assert "<a " not in chart.svg
    page = sources.evaluation / "viewer.html"
    page.write_text(f'<meta name="voxflow-cases" content="{CASES[0]} {CASES[1]}">')
    del sources.__dict__["viewer_cases"]
    (chart,) = draw_dice_strips(sources)
    assert re.findall('<a href="([^"]+)"', chart.svg) == [f"viewer.html#{CASES[0]}", f"viewer.html#{CASES[1]}"]
    assert set(tabulate_cases(sources).links) == {CASES[0], CASES[1]}


def test_the_viewer_says_which_cases_it_has(sources: ReportSources) -> None:
    write_viewer(sources.evaluation / "viewer.html", "t", [], refused={"bad_1": "cut short"})
    assert sources.viewer_cases == ()


def test_scores_of_few_positives_are_said_to_say_little(tmp_path: Path) -> None:
    sources = write_classification(tmp_path)
    row = {"name": "mass", "positives": 3, "negatives": 37, "auc": 0.9, "intervals": {"auc": [0.55, 1.0]}}
    put(sources.evaluation / "test/summary.json", {"per_class": [row], "specificity": 0.9})
    put(sources.metrics / "evaluate.json", {"mean_auc": 0.9, "auc_mass": 0.9})
    table = tabulate_classes(sources)
    assert dict(zip(table.columns, table.rows[0], strict=True))["remark"] == "only 3 positives: these scores say little"
    (chart,) = draw_roc(sources)
    assert chart.legend[0][0] == "mass: AUC 0.90 (0.55 to 1.00), 3 positive, too few to tell"
    assert 'class="diagonal"' in chart.svg
