"""Shows how far a model can be trusted case by case: calibrations, risk and coverage, and what to review."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from voxflow.reporting.charts import Chart, draw_lines, series_colour
from voxflow.reporting.tables import Table, make_table
from voxflow.tables import read_rows
from voxflow.trust import CALIBRATION_FILE, Calibration, has_calibration, read_any_calibration, trace_risk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxflow.reporting.sources import ReportSources
    from voxflow.tables import Row

LEVELS = (0.8, 0.9, 0.95)
REVIEW_TABLE, RELIABILITY = "review.csv", "reliability.csv"
MODELS = {"": "this model", "ensemble": "the folds' models together"}
COLUMNS = ("case", "by", "verdict", "dice_bound", "bound_holds", "estimated_dice", "agreement", "reasons")


@dataclass(frozen=True)
class TrustSection:
    """The part of the page; without tables where nothing was calibrated and nothing sorted.

    Attributes:
        calibration: a row a level of confidence.
        charts: risk and coverage.
        review: the cases without a label that were sorted, those to review first.
        pages: title and address of the worklists.
        reliability: of radiograph findings, a row a finding before and after the calibration.
    """

    calibration: Table
    charts: tuple[Chart, ...]
    review: Table
    pages: tuple[tuple[str, str], ...] = ()
    reliability: Table = field(default_factory=Table)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.calibration.rows and not self.review.rows and not self.reliability.rows


def describe_trust(sources: ReportSources) -> TrustSection:
    """Describe the calibration of the workspace's model and of its folds together, and the cases to review."""
    calibrations: dict[str, Calibration] = {}
    for folder, model in MODELS.items():
        path = sources.evaluation / folder / "test" / CALIBRATION_FILE
        calibration = read_any_calibration(path) if has_calibration(path) else None
        if isinstance(calibration, Calibration):
            calibrations[model] = calibration
    rows = [row for model, calibration in calibrations.items() for row in _list_levels(model, calibration)]
    curves = {
        model: trace_risk(calibration.agreement, calibration.dice)
        for model, calibration in calibrations.items()
        if calibration.dice
    }
    cases = [{**row, "by": model} for folder, model in MODELS.items() for row in _read_worklist(sources, folder)]
    links = {case: f"viewer.html#{quote(case)}" for case in sources.viewer_cases}
    review = make_table(cases, COLUMNS, missing="")
    pages = tuple(
        (model, quote(f"{folder}/infer/review.html".lstrip("/")))
        for folder, model in MODELS.items()
        if (sources.evaluation / folder / "infer" / "review.html").is_file()
    )
    return TrustSection(
        make_table(rows, missing=""),
        _draw_risk(curves),
        Table(review.columns, review.rows, links=links),
        pages,
        _tabulate_reliability(sources),
    )


def _tabulate_reliability(sources: ReportSources) -> Table:
    rows = [
        {"by": model, **row}
        for folder, model in MODELS.items()
        for row in read_rows(sources.evaluation / folder / "test" / RELIABILITY) or []
    ]
    return make_table(rows, missing="", rounded=True)


def _list_levels(model: str, calibration: Calibration) -> Iterator[Row]:
    predictor = calibration.predictor
    for level in LEVELS:
        bounds = [predictor.bound(agreement, level) for agreement in calibration.agreement]
        if not predictor.errors:
            return
        coverage = predictor.measure_coverage(level)
        yield {
            "model": model,
            "agreement of": calibration.signal,
            "patients": str(len(calibration.dice)),
            "confidence asked for": f"{level:.0%}",
            "that the patients prove": f"{predictor.level(level):.0%}",
            "held, each left out in turn": f"{coverage:.0%}" if math.isfinite(coverage) else "",
            "mean bound of Dice": f"{sum(bounds) / len(bounds):.3f}",
            "mean Dice": f"{sum(calibration.dice) / len(calibration.dice):.3f}",
        }


def _draw_risk(curves: dict[str, list[tuple[float, float]]]) -> tuple[Chart, ...]:
    lines = {model: curve for model, curve in curves.items() if len(curve) > 1}
    if not lines:
        return ()
    titles = ("share of the cases that is kept, the highest agreement first", "risk: 1 - mean Dice")
    svg = draw_lines(lines, x_title=titles[0], y_title=titles[1])
    legend = tuple((model, series_colour(number)) for number, model in enumerate(lines))
    return (Chart("Risk and coverage: a line that rises tells that agreement finds the bad masks", svg, legend),)


def _read_worklist(sources: ReportSources, folder: str) -> list[Row]:
    return read_rows(sources.evaluation / folder / "infer" / REVIEW_TABLE) or []
