"""Shows the scores of a report: a table of class and measure with units, and every case's Dice as a strip of dots."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from voxflow.files import read_json_or_none
from voxflow.reporting.charts import MOST_CLASSES, Chart, class_colour
from voxflow.reporting.tables import Table, make_table, parse_number
from voxflow.tables import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxflow.reporting.sources import ReportSources
    from voxflow.tables import Row

# Column by measure, as the metrics of evaluate begin with it; {} is the tolerance of surface Dice.
OVERLAPS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "surface_dice": "surface Dice at {:g} mm",
    "hd95": "95 % Hausdorff distance, mm",
    "volume_error_ml": "volume error, ml",
    "missed": "cases missed",
    "invented": "cases invented",
}
RANKINGS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at a specificity of {:g}",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "ece": "calibration error",
}
COUNTS = ("missed", "invented", "empty", "cases")
FEW_CASES = 10  # of either kind: the interval of an AUC is then wider than most differences between models
STRIP_WIDTH, ROW_HEIGHT, NAME_WIDTH, MARGIN = 440, 26, 110, 12


def list_class_names(sources: ReportSources) -> list[str]:
    """List the classes that evaluate judged, in the model's order."""
    summary = _read_summary(sources)
    if isinstance(summary.get("per_class"), list):
        return [str(row.get("name")) for row in summary["per_class"]]
    rows = read_rows(sources.evaluation / "test" / "per_case.csv") or []
    columns = dict.fromkeys(column for row in rows for column in row)
    return [column.removeprefix("dice_") for column in columns if column.startswith("dice_")]


def tabulate_classes(sources: ReportSources) -> Table:
    """Tabulate the classes against the measures, each with its unit and its 95 % interval.

    Returns:
        A row a class; no rows where the stage evaluate left no class.
    """
    summary, names = _read_summary(sources), list_class_names(sources)
    metrics = read_json_or_none(sources.metrics / "evaluate.json")
    if not names or not isinstance(metrics, dict):
        return Table()
    bounds, setting = summary.get("intervals_95", {}), summary.get("surface_tolerance_mm", 2.0)
    columns = OVERLAPS
    if "per_class" in summary:
        columns, setting = RANKINGS, summary.get("specificity", 0.9)
    positives = {str(row.get("name")): row for row in summary.get("per_class") or ()}
    rows = []
    for name in names:
        row = {"class": name}
        if name in positives:
            row |= _describe_counts(positives[name])
        for measure, title in columns.items():
            key = f"{measure}_{name}"
            row[title.format(setting)] = _format_score(metrics.get(key), bounds.get(key), is_count=measure in COUNTS)
        rows.append(row)
    if not any(value for row in rows for key, value in row.items() if key != "class"):
        return Table()
    return make_table(rows, ["class", *dict.fromkeys(key for row in rows for key in row if key != "class")], missing="")


def is_class_score(name: str, classes: Sequence[str]) -> bool:
    """Whether a metric's name is one of those that the table of classes has.

    Example:
        >>> is_class_score("dice_spleen", ["spleen"]), is_class_score("mean_dice", ["spleen"])
        (True, False)
    """
    return any(name == f"{measure}_{part}" for measure in (*OVERLAPS, *RANKINGS) for part in classes)


def _describe_counts(row: Mapping[str, Any]) -> Row:
    """How many cases have a finding and how many do not, and what a reader must think of scores of few."""
    counts = {key: int(row.get(key) or 0) for key in ("positives", "negatives")}
    rarest = min(counts, key=lambda key: counts[key])
    remark = ""
    if counts[rarest] < FEW_CASES:
        remark = f"only {counts[rarest]} {rarest}: these scores say little"
    return {key: str(count) for key, count in counts.items()} | {"remark": remark}


def _format_score(value: Any, bounds: Sequence[float] | None, *, is_count: bool) -> str:
    if not isinstance(value, int | float):
        return ""
    if is_count:
        return f"{value:.0f}"
    text = f"{value:.3f}"
    # With spaces that do not break: a line may end before the bracket alone.
    return f"{text} ({bounds[0]:.3f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{bounds[1]:.3f})" if bounds else text


def draw_dice_strips(sources: ReportSources) -> tuple[Chart, ...]:
    """Draw the Dice of every case, a row a class; a dot leads to its case in the viewer where that has it.

    Returns:
        One chart; none where no case has a Dice.
    """
    rows = read_rows(sources.evaluation / "test" / "per_case.csv") or []
    columns = [column for column in (rows[0] if rows else {}) if column.startswith("dice_")][:MOST_CLASSES]
    points = {
        column: [(row.get("case", ""), dice) for row in rows if (dice := parse_number(row.get(column))) is not None]
        for column in columns
    }
    drawn = {column: dots for column, dots in points.items() if dots}
    if not drawn:
        return ()
    height = ROW_HEIGHT * len(drawn) + 34
    described = f"Dice of each case, {len(drawn)} classes, {len(rows)} cases"
    parts = [f'<svg viewBox="0 0 {STRIP_WIDTH} {height}" role="img" aria-label="{described}">']
    parts += _draw_axis(height)
    for number, (column, dots) in enumerate(drawn.items()):
        position = columns.index(column) + 1
        parts += _draw_strip(column.removeprefix("dice_"), dots, number, class_colour(position), sources.viewer_cases)
    title = "Dice of each case: 1 is a mask like the label's, 0 shares nothing with it"
    return (Chart(title, "".join([*parts, "</svg>"]), (), is_wide=True),)


def _place(dice: float) -> float:
    return NAME_WIDTH + max(0.0, min(1.0, dice)) * (STRIP_WIDTH - NAME_WIDTH - MARGIN)


def _draw_axis(height: int) -> Iterator[str]:
    for tick in range(6):
        x = _place(tick / 5)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 26}"/>'
        yield f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{tick / 5:.1f}</text>'


def _draw_strip(
    name: str, dots: Sequence[tuple[str, float]], number: int, colour: str, viewer_cases: Sequence[str]
) -> Iterator[str]:
    y = ROW_HEIGHT * number + 17
    short = name if len(name) <= 15 else f"{name[:14]}…"
    yield f'<text x="{NAME_WIDTH - 10}" y="{y + 4}" text-anchor="end">{html.escape(short)}</text>'
    for case, dice in dots:
        tooltip = html.escape(f"{case}, {name}: {dice:.3f}")
        dot = (
            f'<circle cx="{_place(dice):.1f}" cy="{y}" r="5" style="fill: {colour}" fill-opacity="0.7">'
            f"<title>{tooltip}</title></circle>"
        )
        # The table of cases has the same links for a keyboard.
        address = f"viewer.html#{quote(case)}"
        yield f'<a href="{address}" tabindex="-1">{dot}</a>' if case in viewer_cases else dot
    middle = sorted(dice for _, dice in dots)[len(dots) // 2]
    yield f'<line class="median" x1="{_place(middle):.1f}" x2="{_place(middle):.1f}" y1="{y - 10}" y2="{y + 10}"/>'


def _read_summary(sources: ReportSources) -> dict[str, Any]:
    content = read_json_or_none(sources.evaluation / "test" / "summary.json")
    return content if isinstance(content, dict) else {}
