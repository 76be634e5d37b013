"""Draws a classifier's ROC curves and its calibration (how often findings of a given probability are present)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.colours import CLASS_COLOURS, LIGHT_PAGE, adapt_to_page
from voxflow.inference import DPI, draw_legend, save_figure, shorten_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

# As many as there are colours; two curves of one colour could not be told apart.
MOST_CLASSES = 7


def write_curves(path: Path, roc: Sequence[dict[str, Any]], bins: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of two plots, for the first classes.

    Args:
        path: the PNG.
        roc: rows with class, fpr and tpr.
        bins: rows with class, mean_probability and share_positive.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.4), dpi=DPI, layout="constrained")
    roc_axes, calibration_axes = figure.subplots(1, 2)
    _plot(roc_axes, roc, ("fpr", "tpr"), ("1 - specificity", "sensitivity"), marker="")
    _plot(
        calibration_axes,
        bins,
        ("mean_probability", "share_positive"),
        ("mean probability", "share that has it"),
        marker="o",
    )
    lines = calibration_axes.get_lines()[1:]  # the first is the diagonal
    draw_legend(calibration_axes, lines, _name_lines(bins), fontsize=7)
    save_figure(figure, path)


def write_reliability_diagram(path: Path, bins: Sequence[dict[str, Any]], *, title: str) -> None:
    """Write a PNG of how often findings are there, by the probability that was given, before and after calibration.

    Args:
        path: the PNG; not written where there is no bin.
        bins: rows with finding, state ("before" or "after"), radiographs, mean_probability and share_positive; the
            first findings are drawn, and beside each point stands how many radiographs it is of.
        title: what the radiographs are.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(str(row["finding"]) for row in bins))[:MOST_CLASSES]
    if not names:
        return
    figure = Figure(figsize=(3.6 * len(names) + 0.6, 4.2), dpi=DPI, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for state, colour in (("before", "0.55"), ("after", adapt_to_page(CLASS_COLOURS[0], LIGHT_PAGE))):
            _draw_state(axes, [row for row in bins if (row["finding"], row["state"]) == (name, state)], state, colour)
        axes.set(xlabel="mean probability", ylabel="share that has it", xlim=(0, 1), ylim=(-0.03, 1.03), aspect="equal")
        axes.set_title(shorten_name(name), fontsize=8, parse_math=False)
        axes.legend(fontsize=7, loc="upper left")
    figure.suptitle(title, fontsize=8)
    save_figure(figure, path)


def _draw_state(axes: Axes, rows: Sequence[dict[str, Any]], state: str, colour: str) -> None:
    points = [(row["mean_probability"], row["share_positive"]) for row in rows]
    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, linewidth=1.2, label=state)
    for row, point in zip(rows, points, strict=True):
        count = str(row["radiographs"])
        axes.annotate(count, point, (4, -9), textcoords="offset points", fontsize=6, color=colour)


def _plot(
    axes: Axes, rows: Sequence[dict[str, Any]], keys: tuple[str, str], labels: tuple[str, str], *, marker: str
) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for name, colour in zip(_name_lines(rows), CLASS_COLOURS, strict=False):
        x, y = ([row[key] for row in rows if row["class"] == name] for key in keys)
        axes.plot(x, y, color=adapt_to_page(colour, LIGHT_PAGE), marker=marker, markersize=3, linewidth=1.2)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1), ylim=(0, 1.01), aspect="equal")


def _name_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["class"]) for row in rows))[:MOST_CLASSES]
