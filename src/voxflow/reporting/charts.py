"""Draws line charts and scatter charts as SVG text that a page holds by itself and that scales to any width."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.colours import LINE_COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 260
TITLE = 16  # room for the title of the y axis
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 10, 40
MOST_CLASSES = 40  # that a page has a colour for
SIDE = 380  # of a square chart
TICKS = 5  # about as many labels an axis
DOTS_UP_TO = 60  # points of a line: more dots would hide it


@dataclass(frozen=True)
class Chart:
    """A drawing and the names of its lines with their colours.

    Attributes:
        title: what it shows.
        svg: the drawing.
        legend: name and colour of each line.
        is_wide: it takes the whole width of the page.
    """

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...]
    is_wide: bool = False


def series_colour(index: int) -> str:
    """Return the colour of a line by its position, counted from 0, as CSS that suits light and dark pages.

    After seven they repeat.
    """
    return f"var(--line-{index % len(LINE_COLOURS) + 1})"


def class_colour(number: int) -> str:
    """Return the colour of a class by its number, counted from 1, as CSS that suits light and dark pages.

    It has the hue of the class in pictures and in the viewer (:mod:`voxflow.colours`); after forty they repeat.
    """
    return f"var(--class-{(number - 1) % MOST_CLASSES + 1})"


def draw_lines(
    series: Mapping[str, Points],
    *,
    x_title: str,
    y_title: str = "",
    y_range: tuple[float, float] | None = None,
    colours: Sequence[str] = (),
    has_diagonal: bool = False,
) -> str:
    """Draw series of (x, y) points.

    Args:
        series: points by name; a name without points draws nothing.
        x_title: label of the x axis, with the unit where there is one.
        y_title: label of the y axis.
        y_range: the least and greatest y to show; taken from the points when left out.
        colours: CSS colour of each line; empty: :func:`series_colour`.
        has_diagonal: draw where y equals x, as a ROC curve of guesses would lie.

    Returns:
        One ``<svg>`` element.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x_ticks = choose_ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_low, y_high = y_range or (min(y for _, y in points), max(y for _, y in points))
    y_ticks = choose_ticks(y_low, y_high)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (WIDTH - left - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    left = LEFT + (TITLE if y_title else 0)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(", ".join(series))}">']
    parts += _draw_grid(x_ticks, y_ticks, at, left)
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_title)}</text>')
    if y_title:
        parts.append(write_upright(y_title, (HEIGHT - BOTTOM + TOP) / 2))
    if has_diagonal:
        (x1, y1), (x2, y2) = (at(end, end) for end in (x_ticks[0], x_ticks[-1]))
        parts.append(f'<line class="diagonal" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    for index, (name, line) in enumerate(series.items()):
        colour = colours[index] if colours else series_colour(index)
        parts.append(_draw_line(name, line, [at(x, y) for x, y in line], colour))
    return "".join([*parts, "</svg>"])


def _draw_grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], at: Callable[[float, float], tuple[float, float]], left: int
) -> Iterator[str]:
    """The lines of a chart's grid, with the numbers of both axes."""
    for y in y_ticks:
        _, row = at(x_ticks[0], y)
        yield f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}"/>'
        yield f'<text x="{left - 8}" y="{row + 4:.1f}" text-anchor="end">{format_tick(y, y_ticks)}</text>'
    for x in x_ticks:
        column, _ = at(x, y_ticks[0])
        yield f'<text x="{column:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{format_tick(x, x_ticks)}</text>'


def draw_scatter(points: Sequence[tuple[str, float, float]], *, x_title: str, y_title: str) -> str:
    """Draw one point a case, and the diagonal on which both are equal.

    Args:
        points: name, x, y.
        x_title: label of the x axis.
        y_title: label of the y axis.

    Returns:
        One ``<svg>`` element; empty without points.
    """
    if not points:
        return ""
    values = [value for _, x, y in points for value in (x, y)]
    ticks = choose_ticks(min(values), max(values))
    side = SIDE - LEFT - RIGHT

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = ((value - ticks[0]) / (ticks[-1] - ticks[0]) for value in (x, y))
        return LEFT + across * side, TOP + (1 - up) * side

    better = sum(y > x for _, x, y in points)
    description = f"{y_title} against {x_title}: {better} of {len(points)} cases lie above the diagonal"
    parts = [f'<svg viewBox="0 0 {SIDE} {TOP + side + BOTTOM}" role="img" aria-label="{html.escape(description)}">']
    for value in ticks:
        column, row = at(value, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + side}" y1="{row:.1f}" y2="{row:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{format_tick(value, ticks)}</text>')
        parts.append(
            f'<text x="{column:.1f}" y="{TOP + side + 18}" text-anchor="middle">{format_tick(value, ticks)}</text>'
        )
    parts.append(f'<line class="diagonal" x1="{LEFT}" y1="{TOP + side}" x2="{LEFT + side}" y2="{TOP}"/>')
    middle = LEFT + side / 2
    parts.append(f'<text x="{middle}" y="{TOP + side + 35}" text-anchor="middle">{html.escape(x_title)}</text>')
    parts.append(write_upright(y_title, TOP + side / 2))
    parts += [_draw_case(name, x, y, at(x, y)) for name, x, y in points]
    return "".join([*parts, "</svg>"])


def write_upright(text: str, y: float) -> str:
    """Write the title of a y axis, turned by a quarter."""
    turn = f"rotate(-90 12 {y})"
    return f'<text x="12" y="{y}" text-anchor="middle" transform="{turn}">{html.escape(text)}</text>'


def _draw_case(name: str, x: float, y: float, place: tuple[float, float]) -> str:
    column, row = place
    tooltip = html.escape(f"{name}: {x:.4g} → {y:.4g}")
    return (
        f'<circle cx="{column:.1f}" cy="{row:.1f}" r="4" style="fill: {series_colour(int(y < x))}" '
        f'fill-opacity="0.75"><title>{tooltip}</title></circle>'
    )


def _draw_line(name: str, values: Points, places: Points, colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    polyline = f'<polyline points="{path}" fill="none" style="stroke: {colour}" stroke-width="2"/>'
    if len(values) > DOTS_UP_TO:
        return polyline
    dots = (
        f'<circle cx="{column:.1f}" cy="{row:.1f}" r="2.5" style="fill: {colour}">'
        f"<title>{html.escape(name)} at {x:g}: {y:.4g}</title></circle>"
        for (x, y), (column, row) in zip(values, places, strict=True)
    )
    return polyline + "".join(dots)


def choose_ticks(low: float, high: float) -> list[float]:
    """Choose round numbers that cover low to high, at least two."""
    span = (high - low) or abs(high) or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    # 0.999: where rough is a round number, an error of its last bit must not lead to the next larger step.
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(count * step, 12) for count in range(first, max(last, first + 1) + 1)]


def format_tick(value: float, ticks: Sequence[float]) -> str:
    """Format a tick with as many decimals as the step between ticks has."""
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    exact = decimals if math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6) else decimals + 1
    return f"{value:.{exact}f}"
