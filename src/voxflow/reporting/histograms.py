"""Draws histograms as SVG text, with the bounds that values are expected in."""

from __future__ import annotations

import html
import math
from collections import Counter
from typing import TYPE_CHECKING

from voxflow.reporting.charts import BOTTOM, LEFT, RIGHT, TOP, WIDTH, choose_ticks, format_tick, write_upright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Bounds = tuple[float | None, float | None]

HEIGHT, FEWEST_BARS, MOST_BARS = 190, 5, 24
BASE = HEIGHT - BOTTOM


def draw_histogram(values: Sequence[float], *, x_title: str, bounds: Bounds) -> str:
    """Draw how many cases have which value; bars beyond the bounds stand out.

    Args:
        values: one a case, finite.
        x_title: label of the x axis, with the unit.
        bounds: the least and greatest value that are expected; None: any.

    Returns:
        One ``<svg>`` element; empty where all values are one.
    """
    if not values or min(values) == max(values):
        return ""
    low, high = min(values), max(values)
    ticks = choose_ticks(low, high)

    def at(x: float) -> float:
        return LEFT + (x - ticks[0]) / (ticks[-1] - ticks[0]) * (WIDTH - LEFT - RIGHT)

    described = html.escape(f"{len(values)} cases by {x_title}, from {low:g} to {high:g}")
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">']
    parts += _draw_bars(values, bounds, at)
    parts += [
        f'<line class="diagonal" x1="{at(bound):.1f}" x2="{at(bound):.1f}" y1="{TOP}" y2="{BASE}"/>'
        for bound in bounds
        if bound is not None and ticks[0] <= bound <= ticks[-1]
    ]
    parts += [
        f'<text x="{at(x):.1f}" y="{BASE + 18}" text-anchor="middle">{format_tick(x, ticks)}</text>' for x in ticks
    ]
    parts.append(write_upright("cases", (BASE + TOP) / 2))
    parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{BASE}" y2="{BASE}"/>')
    place = f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle"'
    return "".join([*parts, f"<text {place}>{html.escape(x_title)}</text></svg>"])


def _draw_bars(values: Sequence[float], bounds: Bounds, at: Callable[[float], float]) -> Iterator[str]:
    """The bars, and how many cases the highest and the lowest line of the drawing stand for."""
    low, high = min(values), max(values)
    count = min(MOST_BARS, max(FEWEST_BARS, math.ceil(math.sqrt(len(values)))))
    bars = Counter(min(count - 1, int((value - low) / (high - low) * count)) for value in values)
    highest = max(bars.values())
    for number, cases in sorted(bars.items()):
        left, right = (low + (high - low) * (number + side) / count for side in (0, 1))
        is_out = (bounds[0] is not None and right <= bounds[0]) or (bounds[1] is not None and left >= bounds[1])
        tall = cases / highest * (BASE - TOP)
        yield (
            f'<rect class="{"out" if is_out else "in"}" x="{at(left) + 0.5:.1f}" y="{BASE - tall:.1f}" '
            f'width="{max(1.0, at(right) - at(left) - 1):.1f}" height="{tall:.1f}">'
            f"<title>{cases} of {left:.4g} to {right:.4g}</title></rect>"
        )
    for y, text in ((TOP + 8, highest), (BASE, 0)):
        yield f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{text}</text>'
