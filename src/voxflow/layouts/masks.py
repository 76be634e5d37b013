"""Reads folders of cases with a mask for each class: TotalSegmentator's data, and images with masks beside them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from voxflow.layouts.model import (
    IGNORE,
    IGNORE_VALUE,
    ChannelSource,
    LabelSource,
    Layout,
    LayoutCase,
    LayoutName,
    Part,
    sort_cases,
)
from voxflow.tables import read_rows
from voxflow.volumes import strip_suffix

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.layouts.folder import FolderFiles

TOTALSEGMENTATOR_IMAGES = {"ct": "CT", "mri": "MR", "mr": "MR"}
TOTALSEGMENTATOR_MASKS = "segmentations"
TOTALSEGMENTATOR_TABLE = "meta.csv"
IMAGE_WORDS = ("image", "img", "volume", "vol", "scan", "ct", "mr", "mri", "pet", "pt", "t1", "t1c", "t2", "flair")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentations", "segmentation", "segs", "seg", "rois")
_AFFIX = re.compile(r"^(mask|seg|label|roi)[-_ ]|[-_ ](mask|seg|label|roi)$", re.IGNORECASE)


def recognise_totalsegmentator(folder: FolderFiles) -> Layout | None:
    """Read TotalSegmentator's data: ``s0001/ct.nii.gz``, ``s0001/segmentations/CLASS.nii.gz``, and ``meta.csv``.

    Returns:
        Classes by name, with the values 1, 2, ... in that order. None where no folder looks so.
    """
    images = {parent: _find_images(files, TOTALSEGMENTATOR_IMAGES) for parent, files in folder.by_folder.items()}
    images = {parent: files for parent, files in images.items() if len(files) == 1}
    masks = {parent: folder.list_volumes(parent / TOTALSEGMENTATOR_MASKS) for parent in images}
    if not any(masks.values()):
        return None
    parts = _read_parts(next(iter(images)).parent)
    cases = [
        LayoutCase(
            name=parent.name,
            patient=parent.name,
            channels=(ChannelSource(files[0]),),
            labels=tuple(LabelSource(mask, strip_suffix(mask.name)) for mask in masks[parent]),
            part=parts.get(parent.name, ""),
        )
        for parent, files in images.items()
    ]
    words = {TOTALSEGMENTATOR_IMAGES[strip_suffix(files[0].name).lower()] for files in images.values()}
    return build_mask_layout("totalsegmentator", folder, (" or ".join(sorted(words)),), cases)


def recognise_masks(folder: FolderFiles) -> Layout | None:
    """Read a folder for each case, with images called image, ct, t1 ... and a mask for each class.

    The masks lie beside the images, or in a folder ``masks`` (labels, segmentations) beside them.

    Returns:
        Channels by the names of images that more than half of the cases have; another case lacks a channel, or has one
        too many, which gets no place. None where no folder has images and at least two masks.
    """
    groups: dict[Path, tuple[list[Path], list[Path]]] = {}
    for parent, files in folder.by_folder.items():
        images = _find_images(files, IMAGE_WORDS)
        masks = [file for file in files if file not in images]
        for name in MASK_FOLDERS:
            masks += folder.list_volumes(parent / name)
        if images:
            groups[parent] = images, masks
    channels = _choose_channels([images for images, _ in groups.values()])
    if len(groups) < 2 or not channels or max(len(masks) for _, masks in groups.values()) < 2:
        return None
    cases = []
    for parent, (images, masks) in groups.items():
        sources, fault = _choose_images(images, channels)
        name = parent.relative_to(folder.source).as_posix()
        labels = tuple(LabelSource(mask, _name_class(mask)) for mask in masks)
        cases += [LayoutCase(name, name, sources, labels, fault=fault)] if any(sources) else []
    return build_mask_layout("masks", folder, channels, cases)


def build_mask_layout(
    name: LayoutName, folder: FolderFiles, channels: tuple[str, ...], cases: Sequence[LayoutCase]
) -> Layout:
    """Make a layout of cases whose labels are masks by class name."""
    cases = [replace(case, labels=tuple(map(_spell_ignore, case.labels))) for case in cases]
    names = sorted({label.class_name for case in cases for label in case.labels} - {IGNORE})
    values = {class_name: number for number, class_name in enumerate(names, start=1)}
    has_ignore = any(label.class_name == IGNORE for case in cases for label in case.labels)
    lacking = [
        case.name
        for case in cases
        if case.labels and not case.fault and not set(names) <= {label.class_name for label in case.labels}
    ]
    remarks = (
        (f"{len(lacking)} labelled case(s) lack a mask of some class, which is taken as empty",) if lacking else ()
    )
    return Layout(
        name=name,
        root=folder.source,
        channels=channels,
        classes={class_name: (value,) for class_name, value in values.items()},
        cases=sort_cases(cases),
        ignore=max(IGNORE_VALUE, len(values) + 1) if has_ignore else None,
        unplaced=folder.explain_unplaced([file for case in cases for file in case.files]),
        remarks=remarks,
    )


def _spell_ignore(label: LabelSource) -> LabelSource:
    """Upper and lower case are alike for the name of voxels that nobody labelled."""
    return replace(label, class_name=IGNORE) if label.class_name.casefold() == IGNORE else label


def _find_images(files: Iterable[Path], words: Collection[str]) -> list[Path]:
    return [file for file in files if strip_suffix(file.name).lower() in words]


def _name_image(file: Path) -> str:
    return strip_suffix(file.name).lower()


def _choose_channels(images_by_case: Sequence[Sequence[Path]]) -> tuple[str, ...]:
    """The names of images that more than half of the cases have, in the order of a case that has them all."""
    names_by_case = [list(dict.fromkeys(map(_name_image, images))) for images in images_by_case]
    counts = Counter(name for names in names_by_case for name in names)
    common = sorted(name for name, count in counts.items() if count * 2 > len(names_by_case))
    whole = next((names for names in names_by_case if set(names) >= set(common)), common)
    return tuple(name for name in whole if name in common)


def _choose_images(images: Sequence[Path], channels: Sequence[str]) -> tuple[tuple[ChannelSource | None, ...], str]:
    """The image of each channel, None where a case has none of its name; and what is wrong where it has two."""
    by_name = {name: [image for image in images if _name_image(image) == name] for name in channels}
    fault = next(
        (
            f"{twins[0].name} and {twins[1].name} are both its {name}; keep one"
            for name, twins in by_name.items()
            if len(twins) > 1
        ),
        "",
    )
    return tuple(ChannelSource(files[0]) if files else None for files in by_name.values()), fault


def _name_class(mask: Path) -> str:
    stem = strip_suffix(mask.name)
    return _AFFIX.sub("", stem) or stem


def _read_parts(folder: Path) -> Mapping[str, Part]:
    """What meta.csv beside the cases' folders uses each case for; its values train, val and test."""
    rows = read_rows(folder / TOTALSEGMENTATOR_TABLE) or []
    return {row.get("image_id", ""): "testing" if row.get("split") == "test" else "training" for row in rows}
