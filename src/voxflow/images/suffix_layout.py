"""Joins image files of a plain folder to cases of several channels by the ends of their names (``_ct``, ``_0001``)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from voxflow.images.names import FileName, parse_name, strip_suffix
from voxflow.images.pairing import NO_IMAGE, ImagePair
from voxflow.layouts import ChannelSource, LabelSource, Layout, LayoutCase
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

Source = TypeVar("Source")
_Key = tuple[str, str]
NO_IMAGES = "a label without images of its name"


def join_by_suffix(
    source: Path, files: Sequence[Path], suffixes: Mapping[str, str], patient_pattern: str | None = None
) -> Layout:
    """Join files to cases: an image for each channel, and a label that is called as the case is.

    Args:
        source: the folder.
        files: all files below it.
        suffixes: what the name of a channel's file ends in, upper and lower case alike, by channel in the model's
            order; of several that fit, the longest.
        patient_pattern: a regular expression whose first group, found in a case's name, is the patient; None: each case
            is a patient of its own.
    """
    images: dict[_Key, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    labels: dict[_Key, list[Path]] = defaultdict(list)
    unplaced: dict[Path, str] = {}
    for path in sorted(files):
        if path.name.startswith(".") or not path.name.lower().endswith(VOLUME_SUFFIXES):
            continue
        name, channel = parse_name(path, source), _find_channel(path, suffixes)
        if (name.folder_role or name.word_role) == "label":
            labels[name.subset, name.key].append(path)
        elif channel:
            images[_cut_suffix(name, source, suffixes[channel])][channel].append(path)
        else:
            unplaced[path] = f"its name ends in no channel's suffix: {', '.join(suffixes.values())}"
    labels = _find_cases_of_labels(labels, images, suffixes.values())
    for key, paths in labels.items():
        if key not in images or len(paths) > 1:
            reason = f"{len(paths)} labels of one case" if key in images else NO_IMAGES
            unplaced |= dict.fromkeys(paths, reason)
    repeated = [paths for channels in images.values() for paths in channels.values() if len(paths) > 1]
    unplaced |= {path: f"one of {len(paths)} files for one channel of a case" for paths in repeated for path in paths}
    names = {key: key[1] if count == 1 else "-".join(reversed(key)) for key, count in _count_names(images).items()}
    cases = [
        LayoutCase(
            name=names[key],
            patient=_find_patient(names[key], patient_pattern),
            channels=tuple(_choose_only(channels.get(channel, []), ChannelSource) for channel in suffixes),
            labels=tuple(label for label in [_choose_only(labels.get(key, []), LabelSource)] if label),
        )
        for key, channels in sorted(images.items())
    ]
    # Its name is asked for where a layout is recognised, which this is not.
    return Layout(
        "table", source, tuple(suffixes), {}, tuple(case for case in cases if any(case.channels)), unplaced=unplaced
    )


def _find_cases_of_labels(
    labels: Mapping[_Key, Sequence[Path]], cases: Collection[_Key], suffixes: Iterable[str]
) -> dict[_Key, list[Path]]:
    """The labels of each case; one may be called after the channel that it was drawn on, as ``a_ct_seg``."""
    labels_by_case: dict[_Key, list[Path]] = defaultdict(list)
    for (subset, name), paths in labels.items():
        cut = [name[: -len(suffix)] for suffix in suffixes if name.casefold().endswith(suffix.casefold())]
        named = (key for key in [(subset, name), *((subset, stem) for stem in cut)] if key in cases)
        labels_by_case[next(named, (subset, name))] += paths
    return labels_by_case


def split_lone_labels(layout: Layout) -> tuple[Layout, list[ImagePair]]:
    """Take the labels without images out of a layout: they may belong to DICOM series.

    Returns:
        The layout without them, and a pair without an image for each.
    """
    lone = [path for path, reason in layout.unplaced.items() if reason == NO_IMAGES]
    unplaced = {path: reason for path, reason in layout.unplaced.items() if path not in lone}
    return replace(layout, unplaced=unplaced), [
        ImagePair(strip_suffix(path.name), label=path, reason=NO_IMAGE) for path in lone
    ]


def _count_names(keys: Collection[_Key]) -> dict[_Key, int]:
    """In how many parts of the data set, such as imagesTr and imagesTs, a case's name stands."""
    counts = Counter(name for _, name in keys)
    return {key: counts[key[1]] for key in keys}


def _choose_only(paths: Sequence[Path], make: Callable[[Path], Source]) -> Source | None:
    return make(paths[0]) if len(paths) == 1 else None


def _find_patient(name: str, pattern: str | None) -> str:
    match = re.search(pattern, name) if pattern else None
    return (match[1] or name) if match else name


def _find_channel(path: Path, suffixes: Mapping[str, str]) -> str:
    """The channel whose suffix a file's name ends in; empty where there is none."""
    stem = strip_suffix(path.name).casefold()
    fitting = [channel for channel, suffix in suffixes.items() if stem.endswith(suffix.casefold())]
    return max(fitting, key=lambda channel: len(suffixes[channel]), default="")


def _cut_suffix(name: FileName, source: Path, suffix: str) -> _Key:
    """What the images of a case have in common; where nothing of the name is left, it is the folder."""
    rest = strip_suffix(name.path.name)[: -len(suffix)]
    cut = parse_name(name.path.with_name(f"{rest or 'image'}.nii.gz"), source)
    return cut.subset, cut.key
