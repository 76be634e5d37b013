"""Draws the pictures of a comparison: both masks of one case on the slice where they differ most.

Arrays are (i, j, k) on the grid of the stage convert, turned to LPS first: i to the patient's left, j to the back, k to
the head. matplotlib's rows go downwards, so a slice ``array[:, :, k].T`` shows the patient as radiologists look at it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import InputError
from voxflow.images import find_channel_modalities, read_channel_rules, read_ignore
from voxflow.inference import FRAME, TITLE, draw_contours, draw_sides
from voxflow.reporting import Picture, encode_png
from voxflow.tables import read_rows
from voxflow.viewing import choose_window, orient_for_viewing
from voxflow.volumes import CHANNEL_SEPARATOR, Volume, name_channel, read_volume, resample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.comparing.sides import Side
    from voxflow.geometry import Geometry

DPI = 100


def draw_changes(
    old: Side, new: Side, gains: Mapping[str, float], cases: Iterable[str], volumes: Path
) -> list[Picture]:
    """Draw cases; those whose image or masks are not here are left out.

    Args:
        old: drawn to the left.
        new: drawn to the right.
        gains: change of the Dice by case, for the titles.
        cases: the cases to draw, in this order.
        volumes: what the stage convert made: images and labels on their own grid.
    """
    rows = {row["case"]: row for row in read_rows(volumes / "cases.csv") or []}
    rules = read_channel_rules(volumes)
    names = list(rules)
    pictures = []
    for case in cases:
        masks = [side.folder / "masks" / f"{case}.nii.gz" for side in (old, new)]
        row = rows.get(case)
        if row is None or not row.get("label") or not all(mask.is_file() for mask in masks):
            continue
        try:
            *channels, label, before, after = _read_views(row, masks, volumes)
        except (InputError, OSError):
            continue
        if any(volume.array.shape != before.array.shape for volume in (*channels, label, after)):
            continue
        sides = {old.name: before, new.name: after}
        modality = row.get("modality", "")
        modalities = list(find_channel_modalities(rules, modality).values()) or [modality]
        sources = [
            encode_png(_draw_side_by_side(image, label, sides, modality=modality))
            for image, modality in zip(channels, modalities, strict=True)
        ]
        named = tuple((name_channel(names, n), source) for n, source in enumerate(sources)) if len(sources) > 1 else ()
        pictures.append(Picture(f"{case}: {gains[case]:+.3f}", sources[0], named))
    return pictures


def _read_views(row: Mapping[str, str], masks: Sequence[Path], volumes: Path) -> list[Volume]:
    """The channels, the label and both masks of a case, turned for viewing."""
    images = [read_volume(volumes / name) for name in row["image"].split(CHANNEL_SEPARATOR)]
    label, before, after = (read_volume(path) for path in (volumes / row["label"], *masks))
    ignore = read_ignore(volumes)
    if ignore is not None:
        label = Volume(np.where(label.array == ignore, 0, label.array), label.geometry)
    if len(images) > 1:
        images, label = _bring_onto(before.geometry, images, label)
    return [orient_for_viewing(volume) for volume in (*images, label, before, after)]


def _bring_onto(grid: Geometry, images: Sequence[Volume], label: Volume) -> tuple[list[Volume], Volume]:
    """Bring channels that may lie on grids of their own, and the label, to the masks' grid."""
    channels = [resample(image, grid, fill=float(image.array.min())) for image in images]
    return channels, resample(label, grid, "nearest")


def _draw_side_by_side(image: Volume, label: Volume, masks: Mapping[str, Volume], *, modality: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before, after = (mask.array for mask in masks.values())
    # argmax takes the first of equal slices: 0 where the masks do not differ at all.
    index = int(np.count_nonzero(before != after, axis=(0, 1)).argmax())
    column_mm, row_mm, _ = image.geometry.spacing
    window = choose_window(image.array, modality, label.array)
    figure = Figure(figsize=(8.0, 4.4), dpi=DPI, layout="constrained", facecolor=FRAME)
    for axes, (name, mask) in zip(figure.subplots(1, 2), masks.items(), strict=True):
        axes.axis("off")
        shades, plane = "gray_r" if window.is_inverted else "gray", image.array[:, :, index].T
        axes.imshow(plane, cmap=shades, vmin=window.low, vmax=window.high, aspect=row_mm / column_mm)
        for volume, style in ((label, "solid"), (mask, "dashed")):
            labels = volume.array[:, :, index].T
            draw_contours(axes, labels, (int(value) for value in np.unique(labels) if value > 0), style)
        draw_sides(axes)
        title = f"{name}  slice {index + 1} of {image.array.shape[2]}"
        axes.set_title(title, fontsize=10, color=TITLE, parse_math=False)
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
