"""Finds the files of cases of several images: by the names of the channels, by number, or by a known folder layout.

A file belongs to a channel where its name ends in the channel's name (``p1_T2.nii.gz``, ``p1/T2.nii.gz``) or in its
number (``p1_0001.nii.gz``). The usual spellings of the contrasts of a brain are the same: t1ce, t1gd and t1c. A case
that lacks a channel, or has two files for one, is refused with the reason; nothing is guessed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.errors import DataError, join_names
from voxflow.images import list_files
from voxflow.layouts import CONTRASTS, recognise_layout, split_channel
from voxflow.progress import say
from voxflow.volumes import VOLUME_SUFFIXES, read_geometry, strip_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from voxflow.layouts import Layout, LayoutCase
    from voxflow.spec import ModelSpec


# Beside the endings of BraTS.
USUAL_NAMES = {**CONTRASTS, "t1w": "T1", "t2flair": "FLAIR"}
_WORD = re.compile(r"[^\W_]+")
_END = re.compile(r"[\W_]+$")


@dataclass(frozen=True)
class ChannelFiles:
    """The files of one case.

    Attributes:
        place: what the case is called after: the path of its first file from the folder, without the channel.
        images: the files, in the order of the channels; those that are there, where ``reason`` says what is wrong.
        selection: as :class:`voxflow.inference.InferenceCase` has it.
        reason: why it is no case; empty where it is one.
    """

    place: Path
    images: tuple[Path, ...]
    selection: tuple[int, ...] = ()
    reason: str = ""


def find_channel_files(folder: Path, files: Sequence[Path], spec: ModelSpec) -> list[ChannelFiles]:
    """Put the files of each case together.

    Args:
        folder: that all lie below.
        files: volumes, in order.
        spec: of a model that takes several images a case.

    Returns:
        Cases in the order of their first files. A file of no channel is a case by itself: it may hold all channels.

    Raises:
        DataError: the folder's own description is wrong, or its channels are others than the model's.
    """
    layout = recognise_layout(folder, list_files(folder))
    if layout is not None and len(layout.channels) > 1:
        selection = match_channels(layout.channels, spec, folder)
        cases = [_take_layout_case(case, layout, selection, spec) for case in layout.cases]
        return cases + [ChannelFiles(path, (path,), reason=reason) for path, reason in layout.unplaced.items()]
    return _group_files(files, spec)


def find_siblings(file: Path, spec: ModelSpec) -> ChannelFiles:
    """Find the other channels' files beside one channel's.

    Args:
        file: a volume: one channel, or all of them.
        spec: of a model that takes several images a case.
    """
    neighbours = sorted(path for path in file.parent.iterdir() if path.name.lower().endswith(VOLUME_SUFFIXES))
    return next(group for group in _group_files(neighbours, spec) if file in group.images)


def match_channels(names: Sequence[str], spec: ModelSpec, path: Path) -> tuple[int, ...]:
    """Find the model's channels among those that a data set names.

    Args:
        names: in the data set's order.
        spec: of the model.
        path: of the data set, for messages.

    Returns:
        The place of each of the model's channels among ``names``; counted through where either has no names of its
        own.

    Raises:
        DataError: some of the model's channels are there and others are not, or the numbers differ.
    """
    places = [find_channel(name, names) for name in spec.channels]
    missing = [name for name, place in zip(spec.channels, places, strict=True) if place is None]
    selection = tuple(place for place in places if place is not None)
    if selection and not missing and len(set(selection)) == len(selection):
        if len(names) > len(selection):
            say(f"{path}: of the channels {', '.join(names)} the model takes {', '.join(spec.channels)}")
        return selection
    if selection:
        message = (
            f"the model takes {', '.join(spec.channels)}; its channels {', '.join(names)} lack {join_names(missing)}"
        )
        raise DataError(message, path=path)
    if len(names) != spec.image_count:
        raise DataError(f"the model takes {spec.image_count} channels, received {', '.join(names)}", path=path)
    if spec.channels:
        say(f"warning: {path}: its channels {', '.join(names)} are taken for {', '.join(spec.channels)}, in this order")
    return tuple(range(len(names)))


def find_channel(name: str, names: Sequence[str]) -> int | None:
    """Find which of the model's channels a name means, whatever its spelling; None where it means none.

    Example:
        >>> find_channel("t1ce", ["T1", "T1c"]), find_channel("PD", ["T1", "T1c"])
        (1, None)
    """
    for spell in (str.casefold, _normalise):
        places = [place for place, channel in enumerate(names) if spell(channel) == spell(name)]
        if places:
            return places[0] if len(places) == 1 else None
    return None


def _take_layout_case(case: LayoutCase, layout: Layout, selection: Sequence[int], spec: ModelSpec) -> ChannelFiles:
    sources = [case.channels[place] for place in selection]
    names = spec.channels or [layout.channels[place] for place in selection]
    images = tuple(dict.fromkeys(source.path for source in sources if source))
    missing = [name for name, source in zip(names, sources, strict=True) if source is None]
    place = layout.root / case.name
    if case.fault:
        return ChannelFiles(place, images, reason=case.fault)
    if missing:
        return ChannelFiles(place, images, reason=_describe_missing(missing, names))
    if len(images) == len(sources):
        return ChannelFiles(place, images)
    # One file of four dimensions; several of those are none that a layout describes.
    return ChannelFiles(place, images, tuple(source.index or 0 for source in sources if source))


def _group_files(files: Iterable[Path], spec: ModelSpec) -> list[ChannelFiles]:
    groups: dict[Path, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        place, channel = _split_name(file, spec)
        groups[file if channel is None else place][channel or 0].append(file)
    return [_make_group(place, group, spec) for place, group in groups.items()]


def _make_group(place: Path, group: dict[int, list[Path]], spec: ModelSpec) -> ChannelFiles:
    files = [file for _, members in sorted(group.items()) for file in members]
    if files == [place]:
        return ChannelFiles(place, (place,))
    names = spec.channels or tuple(f"{number:04d}" for number in range(spec.image_count))
    repeated = [number for number, members in group.items() if len(members) > 1]
    if repeated:
        file_names = join_names([file.name for file in group[repeated[0]]])
        return ChannelFiles(
            place, tuple(files), reason=f"{file_names} are files of one channel, {_name(repeated[0], names)}"
        )
    surplus = [number for number in group if number >= len(names)]
    if surplus:
        reason = f"{group[surplus[0]][0].name} is one channel too many: the model takes {', '.join(names)}"
        return ChannelFiles(place, tuple(files), reason=reason)
    missing = [name for number, name in enumerate(names) if number not in group]
    return ChannelFiles(place, tuple(files), reason=_describe_missing(missing, names) if missing else "")


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) else f"{number:04d}"


def _describe_missing(missing: Sequence[str], names: Sequence[str]) -> str:
    return f"lacks the channel {join_names(list(missing))} of {', '.join(names)}"


def _split_name(file: Path, spec: ModelSpec) -> tuple[Path, int | None]:
    """The file's place without its channel, and the channel's number; None where its name tells none."""
    stem = strip_suffix(file.name)
    words = list(_WORD.finditer(stem))
    # The most words first: T2_FLAIR is no T2, and no case T2 of FLAIR.
    for word in words[-_count_most_words(spec) :]:
        number = find_channel(stem[word.start() :], spec.channels)
        if number is not None:
            case = _END.sub("", stem[: word.start()])
            # T2.nii.gz in the folder of its case.
            return (file.parent / case if case else file.parent), number
    split = split_channel(stem)
    # A name may end in a number that is no channel's, as that of a file which holds all channels.
    if split is None or not _holds_one_channel(file):
        return file, None
    return file.parent / split[0], split[1]


def _count_most_words(spec: ModelSpec) -> int:
    return max([2, *(len(_WORD.findall(name)) for name in spec.channels)])


def _normalise(name: str) -> str:
    """One spelling of a channel's name.

    Example:
        >>> _normalise("T1ce"), _normalise("t1 Gd"), _normalise("PET (SUV)"), _normalise("T2_FLAIR")
        ('t1c', 't1c', 'petsuv', 'flair')
    """
    plain = "".join(_WORD.findall(name.casefold()))
    return USUAL_NAMES.get(plain, plain).casefold()


def _holds_one_channel(file: Path) -> bool:
    """Whether a volume has one value a voxel; of a damaged one its reading says what is wrong."""
    try:
        read_geometry(file)
    except DataError:
        return False
    return True
