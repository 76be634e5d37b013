"""Draws the pictures of cases of several channels: the one that gives the grid, and beside it each of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxflow.files import write_json
from voxflow.images import find_channel_modalities
from voxflow.inference.overlays import write_overlay
from voxflow.prediction import class_values, label_names
from voxflow.volumes import resample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.spec import ModelSpec
    from voxflow.volumes import Volume

CHANNELS = "channels"  # the folder beside the pictures, and channels.json in it


def write_overlays(
    path: Path, images: Sequence[Volume], mask: Volume, spec: ModelSpec, *, label: Volume | None = None, title: str = ""
) -> None:
    """Write a PNG as :func:`write_overlay` does, and of several channels one each, all of the same slice.

    Args:
        path: the PNG of the channel that gives the grid; the others lie in the folder channels/ beside it.
        images: the channels, in the model's order; on other grids they are brought to the mask's.
        mask: the prediction.
        spec: names of classes and channels, and which channel gives the grid.
        label: the reference, on the mask's grid.
        title: what is said above the picture.
    """
    reference, names = min(spec.reference, len(images) - 1), label_names(spec)
    regions = class_values(spec) if spec.regions else None
    modalities = name_modalities(spec, len(images))
    modality = modalities[reference]
    write_overlay(path, images[reference], mask, names, regions=regions, label=label, title=title, modality=modality)
    if len(images) < 2 or len(images) != len(spec.channels):
        return
    folder = path.parent / CHANNELS
    for number, image in enumerate(images):
        if number != reference:
            on_grid = resample(image, mask.geometry, fill=float(image.array.min()))
            place = folder / f"{path.stem}.{number}.png"
            text = f"{title}  {spec.channels[number]}".strip()
            modality = modalities[number]
            write_overlay(place, on_grid, mask, names, regions=regions, label=label, title=text, modality=modality)
    write_json(folder / "channels.json", {"channels": list(spec.channels), "reference": reference})


def name_modalities(spec: ModelSpec, count: int) -> list[str]:
    """Name the modality of each image, in the model's order; empty where it is not known.

    Args:
        spec: of the model.
        count: of images that a case has.
    """
    if count == len(spec.channels):
        rules = dict(zip(spec.channels, spec.rules or ({},) * count, strict=True))
        return list(find_channel_modalities(rules, spec.modality).values())
    return [spec.modality] * count
