"""Draws a classifier's ROC curves and its calibration (how often findings of a given probability are present)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxflow.colours import CLASS_COLOURS, LIGHT_PAGE, adapt_to_page
from voxflow.inference import DPI, draw_legend, save_figure

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
