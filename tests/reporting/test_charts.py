"""Line charts scale, label their axes with round numbers, and escape names."""

import re

import pytest

from voxflow.reporting.charts import draw_lines
from voxflow.reporting.histograms import draw_histogram


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_axes_carry_round_numbers_that_cover_the_points() -> None:
    svg = draw_lines({"loss": [(1, 0.13), (40, 1.57)]}, x_title="epoch")
    assert labels(svg) == ["0.0", "0.5", "1.0", "1.5", "2.0", "0", "10", "20", "30", "40", "epoch"]


@pytest.mark.parametrize("points", [[(5.0, 0.5)], [(1.0, 2.0), (2.0, 2.0)], [(0.0, 0.0)], [(1.0, -3e-7), (2.0, 4e-7)]])
def test_few_or_flat_points_are_drawn_inside_the_frame(points: list[tuple[float, float]]) -> None:
    svg = draw_lines({"a": points}, x_title="epoch")
    places = [float(value) for value in re.findall(r'c[xy]="([-.0-9]+)"', svg)]
    assert len(places) == 2 * len(points)
    assert all(0 <= place <= 440 for place in places)


def test_names_are_escaped() -> None:
    assert "<b>" not in draw_lines({"<b>": [(0, 0), (1, 1)]}, x_title="<b>")


def test_without_points_there_is_no_chart() -> None:
    assert draw_lines({"a": []}, x_title="epoch") == ""


def test_a_diagonal_and_titles_of_both_axes_are_drawn() -> None:
    svg = draw_lines({"a": [(0, 0), (1, 1)]}, x_title="x, mm", y_title="y, ml", has_diagonal=True)
    assert {"x, mm", "y, ml"} <= set(labels(svg))
    assert svg.count('class="diagonal"') == 1


def test_a_histogram_counts_every_case_and_marks_those_beyond_the_bounds() -> None:
    svg = draw_histogram([1.0] * 7 + [2.0] * 3 + [9.0], x_title="spacing, mm", bounds=(0.5, 5.0))
    counts = [int(count) for count in re.findall(r"<title>(\d+) of", svg)]
    assert sum(counts) == 11
    assert re.findall(r'<rect class="(in|out)"', svg)[-1] == "out"
    assert svg.count('class="out"') == 1
    assert "spacing, mm" in labels(svg)


def test_one_value_needs_no_histogram() -> None:
    assert draw_histogram([2.0, 2.0], x_title="x", bounds=(None, None)) == ""
