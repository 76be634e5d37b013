"""The report holds a forecast against what the training has reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.reporting.stages import put, write_segmentation
from voxflow.reporting.sections import tabulate_training

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.reporting.sources import ReportSources

POINT = {"cases": 3, "minutes": 60.0, "dice": 0.87, "low": 0.83, "high": 0.9}
FORECAST: dict[str, Any] = {"metric": "mean_dice", "level": 0.9, "points": [POINT]}
WORDS = "Dice 0.87 (0.83 to 0.90, 90%) after 60 min with 3 cases"


def write_sources(root: Path, numbers: dict[str, float] | None, forecast: Any = FORECAST) -> ReportSources:
    sources = write_segmentation(root)
    put(sources.datalist, {"training": [{"image": "a", "label": "b"}] * 3 + [{"image": "a"}]})
    put(sources.models / "forecast.json", forecast)
    (sources.models / "train.json").unlink()
    if numbers is not None:
        put(sources.models / "train.json", {"epochs": 40, "best_epoch": 35, **numbers})
    return sources


def read_line(sources: ReportSources) -> str | None:
    lines = {row[0]: row[1] for row in tabulate_training(sources).rows}
    return lines.get("forecast, on the validation cases")


@pytest.mark.parametrize(
    ("numbers", "outcome"),
    [
        (None, ""),
        ({"seconds": 3610.0, "mean_dice": 0.88}, "; 0.880 came out, inside"),
        ({"seconds": 3610.0, "mean_dice": 0.8}, "; 0.800 came out, below"),
        ({"seconds": 3610.0, "mean_dice": 0.95}, "; 0.950 came out, above"),
        (
            {"seconds": 600.0, "mean_dice": 0.85},
            "; 0.850 came out, not comparable: the training took 10 min with 3 cases",
        ),
    ],
)
def test_it_says_what_came_out(numbers: dict[str, float] | None, outcome: str, tmp_path: Path) -> None:
    assert read_line(write_sources(tmp_path, numbers)) == WORDS + outcome


def test_a_training_on_other_cases_is_not_judged(tmp_path: Path) -> None:
    sources = write_sources(tmp_path, {"seconds": 3610.0, "mean_dice": 0.88})
    put(sources.datalist, {"training": [{"image": "a", "label": "b"}] * 4})
    assert str(read_line(sources)).endswith("not comparable: the training took 60.2 min with 4 cases")


def test_a_forecast_of_afterwards_is_not_held_against_the_training(tmp_path: Path) -> None:
    numbers = {"seconds": 3610.0, "mean_dice": 0.88}
    earlier = {"epochs": 40, "best_epoch": 35, **numbers}
    line = read_line(write_sources(tmp_path, numbers, FORECAST | {"earlier_training": earlier}))
    assert str(line).endswith("not comparable: the training was there before the forecast")
    other = FORECAST | {"earlier_training": earlier | {"seconds": 3590.0}}
    assert str(read_line(write_sources(tmp_path / "other", numbers, other))).endswith("0.880 came out, inside")


@pytest.mark.parametrize("content", ["{", [], {}, FORECAST | {"points": []}, FORECAST | {"points": [{"dice": None}]}])
def test_no_forecast_or_a_damaged_one_is_no_line(content: Any, tmp_path: Path) -> None:
    assert read_line(write_sources(tmp_path, {"seconds": 3610.0, "mean_dice": 0.88}, content)) is None
