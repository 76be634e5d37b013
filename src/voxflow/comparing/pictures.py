"""Draws the pictures of a comparison: both masks of one case on the slice where they differ most.

Arrays are (i, j, k) on the grid of the stage convert, turned to LPS first: i to the patient's left, j to the back, k to
the head. matplotlib's rows go downwards, so a slice ``array[:, :, k].T`` shows the patient as radiologists look at it.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import InputError
from voxflow.images import read_ignore
from voxflow.inference import compute_grey_window, draw_contours, orient_for_viewing
from voxflow.reporting import Picture
from voxflow.tables import read_rows
from voxflow.volumes import Volume, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from voxflow.comparing.sides import Side

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
    ignore = read_ignore(volumes)
    pictures = []
    for case in cases:
        masks = [side.folder / "masks" / f"{case}.nii.gz" for side in (old, new)]
        row = rows.get(case)
        if row is None or not row.get("label") or not all(mask.is_file() for mask in masks):
            continue
        try:
            files = [volumes / row["image"].split(";")[0], volumes / row["label"], *masks]
            image, label, before, after = (orient_for_viewing(read_volume(path)) for path in files)
        except (InputError, OSError):
            continue
        if ignore is not None:
            label = Volume(np.where(label.array == ignore, 0, label.array), label.geometry)
        if not image.array.shape == label.array.shape == before.array.shape == after.array.shape:
            continue
        png = _draw_side_by_side(image, label, {old.name: before, new.name: after})
        pictures.append(Picture(f"{case}: {gains[case]:+.3f}", f"data:image/png;base64,{png}"))
    return pictures


def _draw_side_by_side(image: Volume, label: Volume, masks: Mapping[str, Volume]) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before, after = (mask.array for mask in masks.values())
    # argmax takes the first of equal slices: 0 where the masks do not differ at all.
    index = int(np.count_nonzero(before != after, axis=(0, 1)).argmax())
    column_mm, row_mm, _ = image.geometry.spacing
    low, high = compute_grey_window(image.array)
    figure = Figure(figsize=(8.0, 4.4), dpi=DPI, layout="constrained")
    for axes, (name, mask) in zip(figure.subplots(1, 2), masks.items(), strict=True):
        axes.axis("off")
        axes.imshow(image.array[:, :, index].T, cmap="gray", vmin=low, vmax=high, aspect=row_mm / column_mm)
        for volume, style in ((label, "solid"), (mask, "dashed")):
            labels = volume.array[:, :, index].T
            draw_contours(axes, labels, (int(value) for value in np.unique(labels) if value > 0), style)
        axes.set_title(f"{name}  slice {index + 1} of {image.array.shape[2]}", fontsize=8, parse_math=False)
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return base64.b64encode(out.getvalue()).decode()
