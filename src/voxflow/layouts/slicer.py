"""Reads segmentations of 3D Slicer (.seg.nrrd) beside their images: segments with names, values and layers."""

from __future__ import annotations

import re
from collections import Counter
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
MOST_DIGITS = 10
TWO = "another segmentation of the same image lies here; keep one"
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
    images = {file: _find_image(file, folder) for file in segmentations}
    counts = Counter(images.values())
    for file, image in images.items():
        if image is None or counts[image] > 1:
            reasons[file] = NO_IMAGE if image is None else TWO
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
    # Until 2020 each segment had a layer of its own, and no key said so.
    has_own_layers = "dimension: 4" in lines and not any(key.endswith("_Layer") for key in values)
    numbers = sorted({int(match[1]) for key in values if (match := re.fullmatch(r"Segment(\d{1,9})_ID", key))})
    segments: list[Segment] = []
    for number in numbers:
        prefix = f"Segment{number}_"
        layer = str(len(segments) if has_own_layers else 0)
        texts = values.get(f"{prefix}LabelValue", "1"), values.get(f"{prefix}Layer", layer)
        if not all(text.strip().isdecimal() and len(text) < MOST_DIGITS for text in texts):
            raise DataError(f"{prefix}LabelValue or {prefix}Layer is no whole number", path=path)
        name = values.get(f"{prefix}Name", f"Segment_{number + 1}").strip()
        segments.append(Segment(name, int(texts[0]), int(texts[1])))
    if not segments:
        raise DataError("its header lists no segment (Segment0_ID)", path=path)
    return tuple(segments)
