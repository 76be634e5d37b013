"""Reads BraTS data sets: a folder for each visit, and in it a file for each contrast and for the segmentation."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError
from voxflow.layouts.model import ChannelSource, LabelSource, Layout, LayoutCase, sort_cases
from voxflow.volumes import read_volume, round_labels, strip_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.layouts.folder import FolderFiles

# The endings until 2021 and since 2023 (BraTS-GLI), in lower case.
CONTRASTS = {
    "t1": "T1",
    "t1n": "T1",
    "t1ce": "T1c",
    "t1gd": "T1c",
    "t1c": "T1c",
    "t2": "T2",
    "t2w": "T2",
    "flair": "FLAIR",
    "t2f": "FLAIR",
}
CHANNELS = ("T1", "T1c", "T2", "FLAIR")
SEGMENTATION = "seg"
# Besides BraTS's own, the endings of UPENN-GBM and UCSF-PDGM, which have its contrasts and values.
SEGMENTATIONS = (SEGMENTATION, "segm", "tumor_segmentation")
NECROSIS, OEDEMA = 1, 2
# BraTS-PED from 2024 on: 1 enhancing, 2 not enhancing, 3 cysts, 4 oedema.
PEDIATRIC = re.compile(r"BraTS-PED-", re.IGNORECASE)
PEDIATRIC_REGIONS = {
    "whole tumour": (1, 2, 3, 4),
    "tumour core": (1, 2, 3),
    "enhancing tumour": (1,),
    "cystic component": (3,),
}
# The cases whose labels are read to tell the value of enhancing tumour: 4 until 2021, 3 since 2023.
MAX_READ = 20
_NAME = re.compile(rf"(.+?)[-_]({'|'.join([*CONTRASTS, *SEGMENTATIONS])})", re.IGNORECASE)
# A visit of a patient: BraTS-GLI-00012-001.
_VISIT = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}")


def recognise_brats(folder: FolderFiles) -> Layout | None:
    """Read a BraTS data set by the endings of its files, of either style (``_t1ce`` or ``-t1c``).

    Returns:
        Four channels and the nested regions whole tumour, tumour core and enhancing tumour. None where the files of no
        case end in at least three of the contrasts.
    """
    groups: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    twins: dict[tuple[Path, str], str] = {}
    for parent, files in folder.by_folder.items():
        for file in files:
            match = _NAME.fullmatch(strip_suffix(file.name))
            if match:
                contrast = CONTRASTS.get(match[2].lower(), SEGMENTATION)
                first = groups[parent, match[1]].setdefault(contrast, file)
                if first != file:
                    twins[parent, match[1]] = f"{first.name} and {file.name} are both its {contrast}; keep one"
    groups = {key: files for key, files in groups.items() if set(files) - {SEGMENTATION}}
    if not any(len(set(files) - {SEGMENTATION}) >= len(CHANNELS) - 1 for files in groups.values()):
        return None
    cases = [replace(_make_case(key[1], files), fault=twins.get(key, "")) for key, files in groups.items()]
    labels = [label.path for case in cases for label in case.labels]
    classes = _choose_regions(labels)
    return Layout(
        name="brats",
        root=folder.source,
        channels=CHANNELS,
        classes=classes,
        cases=sort_cases(cases),
        unplaced=folder.explain_unplaced([file for case in cases for file in case.files]),
    )


def _make_case(name: str, files: dict[str, Path]) -> LayoutCase:
    visit = _VISIT.fullmatch(name)
    return LayoutCase(
        name=name,
        patient=visit[1] if visit else name,
        channels=tuple(ChannelSource(files[channel]) if channel in files else None for channel in CHANNELS),
        labels=(LabelSource(files[SEGMENTATION]),) if SEGMENTATION in files else (),
    )


def _choose_regions(labels: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The regions by the values that the first labels hold; with 3 and 4, 4 is the resection cavity of 2024.

    Children's tumours of 2024 have other values; those of 2023 are as adults'.
    """
    values: set[int] = set()
    for path in islice(labels, MAX_READ):
        with suppress(DataError):  # which its case will tell
            values |= {int(value) for value in np.unique(round_labels(read_volume(path).array))}
    if 4 in values and PEDIATRIC.match(labels[0].name):
        return PEDIATRIC_REGIONS
    enhancing = 4 if 4 in values and 3 not in values else 3
    regions = {
        "whole tumour": (NECROSIS, OEDEMA, enhancing),
        "tumour core": (NECROSIS, enhancing),
        "enhancing tumour": (enhancing,),
    }
    return regions | ({"resection cavity": (4,)} if values >= {3, 4} else {})
