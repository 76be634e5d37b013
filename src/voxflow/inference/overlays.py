"""Draws pictures: an image's slice with the contours of label and prediction, and sheets of radiographs."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.colours import pick_class_colour
from voxflow.files import atomic_path
from voxflow.viewing import choose_window, compute_grey_window, orient_for_viewing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from voxflow.volumes import Volume

DPI = 110
# Black, as around images in a reading room, so that a page in dark colours stays dark.
FRAME, TITLE = "black", "white"
# A legend of more would cover the picture.
MOST_NAMED = 7
MOST_LETTERS = 48  # of a name in a picture
TILE_LETTERS = 32  # in a line above a radiograph, as wide as its tile


@dataclass(frozen=True)
class RadiographTile:
    """One radiograph of a sheet.

    Attributes:
        image: (rows, columns).
        title: what is said above it.
    """

    image: NDArray[Any]
    title: str


def write_overlay(
    path: Path,
    image: Volume,
    mask: Volume,
    names: Mapping[int, str],
    *,
    regions: Mapping[str, Sequence[int]] | None = None,
    label: Volume | None = None,
    title: str = "",
    modality: str = "",
) -> None:
    """Write a PNG of the axial slice where the label, or without one the mask, is largest.

    Args:
        path: the PNG.
        image: the grey image.
        mask: the prediction, on the same grid; drawn dashed.
        names: name of each label value to draw.
        regions: the label values of each region, where classes overlap; they are drawn, and not single values.
        label: the reference, on the same grid; drawn solid.
        title: what is said above the picture.
        modality: DICOM's, which decides the window of intensities; empty where it is not known.
    """
    upright = [orient_for_viewing(volume) for volume in (image, mask, label) if volume is not None]
    index = find_largest_slice(upright[-1].array if upright[-1].array.any() else upright[1].array)
    column_mm, row_mm, _ = upright[0].geometry.spacing
    figure, axes = _make_canvas(upright[0].array.shape[0] * column_mm, upright[0].array.shape[1] * row_mm)
    window = choose_window(upright[0].array, modality, upright[-1].array)
    shades = "gray_r" if window.is_inverted else "gray"
    plane = _take_plane(upright[0], index)
    axes.imshow(plane, cmap=shades, vmin=window.low, vmax=window.high, aspect=row_mm / column_mm)
    numbered = dict(enumerate((regions or {}).values(), start=1))
    for volume, style in zip(upright[1:], ("dashed", "solid"), strict=False):
        plane = _take_plane(volume, index)
        if not numbered:
            draw_contours(axes, plane, names, style)
        for number, values in numbered.items():
            draw_contours(axes, np.isin(plane, values) * number, [number], style)
    draw_sides(axes)
    text = f"{shorten_name(title)}  slice {index + 1} of {upright[0].array.shape[2]}".strip()
    axes.set_title(text, fontsize=8, color=TITLE, parse_math=False)
    _draw_legend(axes, dict(enumerate(regions, start=1)) if regions else names, has_label=label is not None)
    save_figure(figure, path)


def write_contact_sheet(path: Path, tiles: Sequence[RadiographTile], columns: int = 4) -> None:
    """Write a PNG of several radiographs side by side, each in its own proportions.

    Args:
        path: the PNG.
        tiles: the radiographs, row by row.
        columns: how many stand in a row.
    """
    save_figure(draw_contact_sheet(tiles, columns), path)


def draw_contact_sheet(tiles: Sequence[RadiographTile], columns: int = 4) -> Figure:
    """Draw what :func:`write_contact_sheet` writes; titles are wrapped to the width of their tile.

    Args:
        tiles: the radiographs, row by row.
        columns: how many stand in a row.
    """
    from matplotlib.figure import Figure

    rows = max(1, -(-len(tiles) // columns))
    figure = Figure(figsize=(2.4 * columns, 2.9 * rows), dpi=DPI, layout="constrained", facecolor=FRAME)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, tile in zip(grid.flat, tiles, strict=False):
        low, high = compute_grey_window(tile.image)
        axes.imshow(tile.image, cmap="gray", vmin=low, vmax=high)
        lines = [part for line in tile.title.splitlines() for part in textwrap.wrap(line, TILE_LETTERS)]
        axes.set_title("\n".join(lines), fontsize=7, color=TITLE, parse_math=False)
    return figure


def find_largest_slice(mask: NDArray[Any]) -> int:
    """Find the slice along the last axis where most voxels are labelled.

    Args:
        mask: label values (i, j, k).

    Returns:
        Its index k, from 0; the middle of an empty mask.

    Example:
        >>> mask = np.zeros((4, 4, 5), dtype=np.uint8)
        >>> mask[1:3, 1:3, 3] = 1
        >>> find_largest_slice(mask)
        3
    """
    areas = np.count_nonzero(mask, axis=(0, 1))
    return int(areas.argmax()) if areas.any() else mask.shape[2] // 2


def _take_plane(volume: Volume, index: int) -> NDArray[Any]:
    """Rows to the back, columns to the patient's left."""
    return np.asarray(volume.array[:, :, index].T)


def _make_canvas(width_mm: float, height_mm: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    height = 5.0 * min(max(height_mm / width_mm, 0.4), 2.5)
    figure = Figure(figsize=(5.0, height + 0.5), dpi=DPI, layout="constrained", facecolor=FRAME)
    axes = figure.add_subplot()
    axes.axis("off")
    return figure, axes


def draw_sides(axes: Any) -> None:
    """Write at the edges of an axial slice which side of the patient they are, as radiologists look at it.

    Args:
        axes: matplotlib's, with the patient's right at the left and the front at the top.
    """
    from matplotlib.patheffects import withStroke

    for letter, x, y in (("R", 0.03, 0.5), ("L", 0.97, 0.5), ("A", 0.5, 0.97), ("P", 0.5, 0.03)):
        axes.text(x, y, letter, transform=axes.transAxes, color="white", fontsize=8, fontweight="bold", ha="center",
                  va="center", path_effects=[withStroke(linewidth=1.5, foreground="black")])  # fmt: skip


def draw_contours(axes: Any, labels: NDArray[Any], values: Iterable[int], style: str) -> None:
    """Draw the outline of each label value in the colour of its class.

    Args:
        axes: matplotlib's.
        labels: label values (rows, columns).
        values: those to draw, from 1.
        style: "solid" or "dashed".
    """
    for value in values:
        region = labels == value
        # One voxel of margin closes the outline of what touches the border.
        if region.any() and min(region.shape) > 1:
            rows, columns = (np.arange(-1, n + 1) for n in region.shape)
            padded, colour = np.pad(region, 1).astype(float), pick_class_colour(value)
            axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linestyles=style, linewidths=1.2)


def _draw_legend(axes: Any, names: Mapping[int, str], *, has_label: bool) -> None:
    from matplotlib.lines import Line2D

    entries = list(names.items())[:MOST_NAMED]
    lines = [(name, Line2D([], [], color=pick_class_colour(value))) for value, name in entries]
    if has_label:
        lines.append(("label", Line2D([], [], color="0.5")))
    lines.append(("prediction", Line2D([], [], color="0.5", linestyle="dashed")))
    texts, handles = zip(*lines, strict=True)
    draw_legend(axes, handles, texts, fontsize=6, loc="lower left", framealpha=0.6)


def draw_legend(axes: Any, handles: Sequence[Any], names: Sequence[str], **settings: Any) -> None:
    """Draw a legend that shows names as they are: matplotlib leaves out those that begin with ``_``, and sets ``$``.

    Args:
        axes: matplotlib's.
        handles: the lines.
        names: one a line.
        settings: of matplotlib's legend.
    """
    legend = axes.legend(handles, [str(n) for n in range(len(handles))], **settings)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shorten_name(name))


def shorten_name(name: str) -> str:
    """A name as a picture has room for it: its beginning and its end.

    Example:
        >>> shorten_name("a" * 60 + "_left")
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaa_left'
    """
    return name if len(name) <= MOST_LETTERS else f"{name[:30]}...{name[-15:]}"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG without a date or a version, so that the same picture is the same file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
