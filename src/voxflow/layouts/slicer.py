"""Reads segmentations of 3D Slicer (.seg.nrrd) beside their images: segments with names, values and layers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import require_regular_file
from voxflow.layouts.masks import build_mask_layout
from voxflow.layouts.model import ChannelSource, LabelSource, Layout, LayoutCase
from voxflow.volumes import strip_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.layouts.folder import FolderFiles

ENDING = ".seg.nrrd"
MAX_HEADER = 1 << 22
NO_IMAGE = "a segmentation without an image of its name, or a single image, in its folder"
# Slicer's own words in the names of files that it saves.
_WORDS = re.compile(r"[-_. ]*(segmentation|seg|label)([-_. ]?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Segment:
    """One segment of a .seg.nrrd.

    Attributes:
        name: as the user called it.
        value: of its voxels in its layer.
        layer: from 0; segments that overlap lie in different layers.
    """

    name: str
    value: int
    layer: int


def recognise_slicer(folder: FolderFiles) -> Layout | None:
    """Pair each .seg.nrrd with the image of its name, or with the only image in its folder.

    Returns:
        Classes by the segments' names, with the values 1, 2, ... in that order. None where there is no .seg.nrrd.

    """
    segmentations = [file for file in folder.files if file.name.lower().endswith(ENDING)]
    if not segmentations:
        return None
    reasons, cases = {}, []
    for file in segmentations:
        image = _find_image(file, folder)
        if image is None:
            reasons[file] = NO_IMAGE
            continue
        try:
            layers = read_segments(file)
        except DataError as error:
            reasons[file] = error.message
            continue
        is_layered = len({segment.layer for segment in layers}) > 1
        labels = tuple(
            LabelSource(file, segment.name, segment.value, segment.layer if is_layered else None) for segment in layers
        )
        name = strip_suffix(folder.shorten(image))
        cases.append(LayoutCase(name, name, (ChannelSource(image),), labels))
    for image in folder.explain_unplaced([*reasons, *(file for case in cases for file in case.files)]):
        name = strip_suffix(folder.shorten(image))
        cases.append(LayoutCase(name, name, (ChannelSource(image),)))
    layout = build_mask_layout("slicer", folder, ("image",), cases)
    return replace(layout, unplaced={**layout.unplaced, **reasons})


def _find_image(segmentation: Path, folder: FolderFiles) -> Path | None:
    images = [file for file in folder.list_volumes(segmentation.parent) if not file.name.lower().endswith(ENDING)]
    stem = _WORDS.sub("", segmentation.name[: -len(ENDING)]).lower()
    same_name = [image for image in images if stem and strip_suffix(image.name).lower() == stem]
    return next(iter(same_name or (images if len(images) == 1 else ())), None)


def read_segments(path: Path) -> tuple[Segment, ...]:
    """Read the segments that the header of a .seg.nrrd lists, without its voxels.

    Raises:
        DataError: the file is no NRRD, or its header lists no segment.
    """
    require_regular_file(path)
    with path.open("rb") as stream:
        header = stream.read(MAX_HEADER).partition(b"\n\n")[0]
    if not header.startswith(b"NRRD"):
        raise DataError("no NRRD file", path=path)
    lines = header.decode("utf-8", "replace").splitlines()
    values = dict(line.split(":=", 1) for line in lines if ":=" in line)
    numbers = sorted({int(match[1]) for key in values if (match := re.fullmatch(r"Segment(\d+)_ID", key))})
    segments = []
    for number in numbers:
        prefix = f"Segment{number}_"
        try:
            value, layer = int(values.get(f"{prefix}LabelValue", 1)), int(values.get(f"{prefix}Layer", 0))
        except ValueError as error:
            raise DataError(f"{prefix}LabelValue or {prefix}Layer is no whole number", path=path) from error
        segments.append(Segment(values.get(f"{prefix}Name", f"Segment_{number + 1}").strip(), value, layer))
    if not segments:
        raise DataError("its header lists no segment (Segment0_ID)", path=path)
    return tuple(segments)
