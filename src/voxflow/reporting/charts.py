"""Draws line charts and scatter charts as SVG text that a page holds by itself and that scales to any width."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 10, 40
SIDE = 380  # of a square chart
TICKS = 5  # about as many labels an axis
# Colour-blind safe (Okabe and Ito), those that can be read on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#4B4B4B", "#56B4E9")
DOTS_UP_TO = 60  # points of a line: more dots would hide it


def series_colour(index: int) -> str:
    """Return the colour of a line by its position, counted from 0, as ``#RRGGBB``; after seven they repeat."""
    return COLOURS[index % len(COLOURS)]


def draw_lines(series: Mapping[str, Points], *, x_title: str, y_range: tuple[float, float] | None = None) -> str:
    """Draw series of (x, y) points.

    Args:
        series: points by name; a name without points draws nothing.
        x_title: label of the x axis.
        y_range: the least and greatest y to show; taken from the points when left out.

    Returns:
        One ``<svg>`` element.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x_ticks = _choose_ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_low, y_high = y_range or (min(y for _, y in points), max(y for _, y in points))
    y_ticks = _choose_ticks(y_low, y_high)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(", ".join(series))}">']
    for y in y_ticks:
        _, row = at(x_ticks[0], y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{_format_tick(y, y_ticks)}</text>')
    for x in x_ticks:
        column, _ = at(x, y_ticks[0])
        parts.append(f'<text x="{column:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{_format_tick(x, x_ticks)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_title)}</text>')
    for index, (name, line) in enumerate(series.items()):
        parts.append(_draw_line(name, line, [at(x, y) for x, y in line], series_colour(index)))
    return "".join([*parts, "</svg>"])


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
    ticks = _choose_ticks(min(values), max(values))
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
        parts.append(f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{_format_tick(value, ticks)}</text>')
        parts.append(
            f'<text x="{column:.1f}" y="{TOP + side + 18}" text-anchor="middle">{_format_tick(value, ticks)}</text>'
        )
    parts.append(
        f'<line x1="{LEFT}" y1="{TOP + side}" x2="{LEFT + side}" y2="{TOP}" stroke="#4B4B4B" stroke-dasharray="4 4"/>'
    )
    middle = LEFT + side / 2
    parts.append(f'<text x="{middle}" y="{TOP + side + 35}" text-anchor="middle">{html.escape(x_title)}</text>')
    upright = f"rotate(-90 12 {TOP + side / 2})"
    parts.append(
        f'<text x="12" y="{TOP + side / 2}" text-anchor="middle" transform="{upright}">{html.escape(y_title)}</text>'
    )
    parts += [_draw_case(name, x, y, at(x, y)) for name, x, y in points]
    return "".join([*parts, "</svg>"])


def _draw_case(name: str, x: float, y: float, place: tuple[float, float]) -> str:
    column, row = place
    tooltip = html.escape(f"{name}: {x:.4g} → {y:.4g}")
    return (
        f'<circle cx="{column:.1f}" cy="{row:.1f}" r="4" fill="{COLOURS[0] if y >= x else COLOURS[1]}" '
        f'fill-opacity="0.75"><title>{tooltip}</title></circle>'
    )


def _draw_line(name: str, values: Points, places: Points, colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    polyline = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
    if len(values) > DOTS_UP_TO:
        return polyline
    dots = (
        f'<circle cx="{column:.1f}" cy="{row:.1f}" r="2.5" fill="{colour}">'
        f"<title>{html.escape(name)} at {x:g}: {y:.4g}</title></circle>"
        for (x, y), (column, row) in zip(values, places, strict=True)
    )
    return polyline + "".join(dots)


def _choose_ticks(low: float, high: float) -> list[float]:
    """Round numbers that cover low to high, at least two."""
    span = (high - low) or abs(high) or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    # 0.999: where rough is a round number, an error of its last bit must not lead to the next larger step.
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(count * step, 12) for count in range(first, max(last, first + 1) + 1)]


def _format_tick(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    exact = decimals if math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6) else decimals + 1
    return f"{value:.{exact}f}"
