"""Chooses the images of a model that takes one, where a folder holds the channels of each case side by side.

``p1_0000.nii.gz`` with ``p1_0001.nii.gz``, or ``p1_t1c.nii.gz`` with ``p1_flair.nii.gz``, are channels of one case: the
model was trained on one of them, and says of another what looks right and is not. The one that the model knows by name,
suffix or modality is taken; where it knows none, the case is refused. Files that stand alone are cases, as they are.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError, join_names
from voxflow.images import ENDINGS, list_files, split_ending
from voxflow.inference.channels import find_channel
from voxflow.layouts import recognise_layout, split_channel
from voxflow.volumes import read_geometry, strip_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.spec import ModelSpec

DESCRIPTION = "dataset.json"
MOST_NUMBERS = 16  # of channels; more numbers behind one name are those of cases
MODALITY_WORDS: Mapping[str, tuple[str, ...]] = {"CT": ("ct",), "PT": ("pet", "pt"), "MR": ("mr", "mri")}
CHANNEL_MODALITIES = {"CT": "CT", "PET": "PT"}
TIMES = {"t1", "t2"}  # contrasts, or the first and second scan of a patient


@dataclass(frozen=True)
class SingleImages:
    """The images of a folder that a model of one image is shown.

    Attributes:
        files: in order.
        refused: what can't be used: case and reason.
    """

    files: tuple[Path, ...]
    refused: tuple[dict[str, str], ...]


def choose_single_images(folder: Path, files: Sequence[Path], spec: ModelSpec) -> SingleImages:
    """Leave out the other channels of each case.

    Args:
        folder: that the files lie below.
        files: volumes, in order.
        spec: of a model that takes one image a case.
    """
    groups = _group_by_case(files)
    numbered = {place: group for place, group in groups.items() if next(iter(group)).isdigit()}
    names = _read_channel_names(folder) if numbered else ()
    images: set[Path] = set()
    refused: list[dict[str, str]] = []
    for place, group in groups.items():
        file = _find_own(group, names if place in numbered else (), spec)
        if file:
            images.add(file)
        else:
            reason = _describe_group(list(group.values()), spec)
            refused.append({"case": place.relative_to(folder).as_posix(), "reason": reason})
    members = {file for group in groups.values() for file in group.values()}
    for file in files:
        if file not in members and (reason := _explain_other_channel(file, spec)):
            members.add(file)
            refused.append({"case": file.relative_to(folder).as_posix(), "reason": reason})
    return SingleImages(tuple(file for file in files if file in images or file not in members), tuple(refused))


def _explain_other_channel(file: Path, spec: ModelSpec) -> str:
    """Say that a file's name means another contrast or modality than the model's; empty where it does not."""
    word = split_ending(strip_suffix(file.name))[1]
    channel = ENDINGS.get(word, "")
    rules = list(spec.convert.get("channels", {}))
    contrasts = {ENDINGS[name.casefold()] for name in rules if name.casefold() in ENDINGS}
    modality = next((name for name, words in MODALITY_WORDS.items() if word in words), "MR")
    modalities = {spec.modality} & MODALITY_WORDS.keys() or {CHANNEL_MODALITIES.get(name, "MR") for name in contrasts}
    is_other_contrast = bool(contrasts) and channel not in contrasts and channel != "MR"
    # "pt" may stand for a patient, "t1" and "t2" for times.
    is_other_modality = bool(modalities) and modality not in modalities and word not in TIMES
    if not word or word == "pt" or not (is_other_contrast or is_other_modality):
        return ""
    return f"{file.name} is {channel} by its name; the model takes {join_names(rules or sorted(modalities))}"


def _group_by_case(files: Sequence[Path]) -> dict[Path, dict[str, Path]]:
    """The files of each case that has several channels, by number or word."""
    by_number: dict[Path, dict[str, Path]] = defaultdict(dict)
    by_word: dict[Path, dict[str, Path]] = defaultdict(dict)
    for file in files:
        stem = strip_suffix(file.name)
        if split := split_channel(stem):
            by_number[file.parent / split[0]][f"{split[1]:04d}"] = file
        else:
            case, word = split_ending(stem)
            if word:
                by_word[file.parent / case if case else file.parent][word] = file
    numbered = {place: group for place, group in by_number.items() if _are_numbers_of_channels(group)}
    folders = {place.parent for place in numbered}
    # Beside cases of several channels, a file of one number lacks the others.
    numbered |= {place: group for place, group in by_number.items() if place.parent in folders}
    for file in files:
        # nnU-Net calls a case's label so.
        if (place := file.parent / strip_suffix(file.name)) in numbered:
            numbered[place]["without a number"] = file
    return numbered | {place: group for place, group in by_word.items() if _are_words_of_channels(group)}


def _are_numbers_of_channels(group: Mapping[str, Path]) -> bool:
    """Whether files count from 0 without a gap and lie on one grid, as channels do and numbered cases do not."""
    is_counted = 1 < len(group) <= MOST_NUMBERS and {int(number) for number in group} == set(range(len(group)))
    return is_counted and _lie_on_one_grid(list(group.values()))


def _are_words_of_channels(group: Mapping[str, Path]) -> bool:
    return len(group) > 1 and (not group.keys() <= TIMES or _lie_on_one_grid(list(group.values())))


def _lie_on_one_grid(files: Sequence[Path]) -> bool:
    grids = []
    for file in files:
        with suppress(DataError):  # which the case itself will tell
            grids.append(read_geometry(file, has_channels=True))
    return bool(grids) and all(grid.is_close(grids[0]) for grid in grids)


def _read_channel_names(folder: Path) -> tuple[str, ...]:
    """The names of numbered channels by the data set's own description, in the folder or in the one above it."""
    for root in (folder, folder.absolute().parent):
        if (root / DESCRIPTION).is_file():
            with suppress(DataError):
                layout = recognise_layout(root, list_files(root))
                return layout.channels if layout else ()
    return ()


def _find_own(group: Mapping[str, Path], names: Sequence[str], spec: ModelSpec) -> Path | None:
    """The file of the model's channel, by its rule's suffix, its name or its modality; None where that is not clear."""
    rules: dict[str, dict[str, Any]] = spec.convert.get("channels", {})
    suffixes = [str(rule["suffix"]).casefold() for rule in rules.values() if rule.get("suffix")]
    by_suffix = [file for file in group.values() if strip_suffix(file.name).casefold().endswith(tuple(suffixes))]
    if suffixes and len(by_suffix) == 1:
        return by_suffix[0]
    files = {(names[int(key)] if key.isdigit() and int(key) < len(names) else key): file for key, file in group.items()}
    for name in (*rules, *MODALITY_WORDS.get(spec.modality, ())):
        place = find_channel(name, list(files))
        if place is not None:
            return list(files.values())[place]
    return None


def _describe_group(files: Sequence[Path], spec: ModelSpec) -> str:
    names = join_names([file.name for file in files])
    channel = join_names(list(spec.convert.get("channels", {})))
    need = f"{channel}, and none of them is said to be that" if channel else "and its file does not say which of them"
    return (
        f"{names}: channels of one case, by their names; the model takes one image, {need}: give the files of that "
        "channel alone, or list the images in a datalist"
    )
