"""Reads BIDS data sets: raw images by subject and session, and labels of the same names in derivatives/."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.layouts.masks import build_mask_layout
from voxflow.layouts.model import ChannelSource, LabelSource, Layout, LayoutCase, sort_cases
from voxflow.tables import read_rows
from voxflow.texts import parse_json
from voxflow.volumes import strip_suffix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.layouts.folder import FolderFiles

DESCRIPTION = "dataset_description.json"
DERIVATIVES = "derivatives"
MAP_SUFFIX, MASK_SUFFIXES = "dseg", ("mask", "roi")
# Entities that tell several images of one visit apart; the others (task, run ...) stay as they are.
CHANNEL_ENTITIES = ("ce", "acq", "rec", "trc", "echo", "part")
# Entities that tell several segmentations of one visit apart; of masks, label and desc name the class.
SPACES = ("space", "res", "atlas", "seg")
NO_IMAGE = "no image of this subject and session"
SERIES_FOLDERS = ("func", "dwi", "fmap", "perf")
NO_CHANNEL = f"{', '.join(SERIES_FOLDERS)} hold series over time or directions, which are no channels"
NO_IMAGE_SUFFIXES = ("probseg", "xfm", "warp")
_ENTITY = re.compile(r"([a-zA-Z0-9]+)-([a-zA-Z0-9]+)")


def recognise_bids(folder: FolderFiles) -> Layout | None:
    """Read a BIDS data set with labels in derivatives: ``_dseg`` maps with a table, or ``_mask`` and ``_roi`` files.

    A case is a session of a subject, or a subject without sessions. A channel is a suffix (T1w, FLAIR, pet) with the
    entities that tell two of them apart (ce-gd). Channels that fewer than half of the cases have are left out. Images
    of derivatives count where a case has no others; of several runs, spaces or segmentations one counts, and the others
    have the reason.

    Returns:
        None where no dataset_description.json states a BIDSVersion.

    Raises:
        DataError: the description is no JSON.
    """
    root = _find_root(folder)
    if root is None:
        return None
    reasons: dict[Path, str] = {}
    all_images, labels = _sort_files(folder, root, reasons)
    images = {visit: _choose_images(files, reasons) for visit, files in sorted(all_images.items())}
    chosen_labels = _choose_labels(labels, root, reasons)
    channels, images = _choose_channels(images)
    cases = [
        LayoutCase(
            name=visit,
            patient=visit.partition("_")[0],
            channels=tuple(ChannelSource(files[name]) if name in files else None for name in channels),
            labels=chosen_labels.get(visit, ()),
        )
        for visit, files in images.items()
        if any(name in files for name in channels)
    ]
    names = {case.name for case in cases}
    reasons |= {file: NO_IMAGE for visit, files in labels.items() if visit not in names for file in files}
    return _name_classes(folder, root, channels, cases, reasons)


def _find_root(folder: FolderFiles) -> Path | None:
    """The highest folder with a description; those below derivatives have one of their own."""
    for path in sorted((file for file in folder.files if file.name == DESCRIPTION), key=lambda file: len(file.parts)):
        content = parse_json(read_text(path), path)
        if isinstance(content, dict) and "BIDSVersion" in content:
            return path.parent
    return None


def _sort_files(
    folder: FolderFiles, root: Path, reasons: dict[Path, str]
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The images and the labels of each visit; images of derivatives where it has no others."""
    raw: dict[str, list[Path]] = defaultdict(list)
    derived: dict[str, list[Path]] = defaultdict(list)
    labels: dict[str, list[Path]] = defaultdict(list)
    for parent, files in folder.by_folder.items():
        is_derived = DERIVATIVES in parent.relative_to(root).parts if parent.is_relative_to(root) else True
        for file in files:
            visit, _, suffix = _parse_name(file)
            if visit and suffix in (MAP_SUFFIX, *MASK_SUFFIXES):
                labels[visit].append(file)
            elif parent.name in SERIES_FOLDERS:
                reasons[file] = NO_CHANNEL
            elif visit and suffix not in NO_IMAGE_SUFFIXES:
                (derived if is_derived else raw)[visit].append(file)
    visits = {*raw, *derived} if not raw else {*raw, *(derived.keys() & labels.keys())}
    return {visit: raw.get(visit) or derived[visit] for visit in visits}, labels


def _parse_name(file: Path) -> tuple[str, str, str]:
    """The visit, the channel and the suffix that a BIDS name tells; an empty visit where it is none.

    Example:
        >>> from pathlib import Path
        >>> _parse_name(Path("sub-01_ses-2_ce-gd_T1w.nii.gz"))
        ('sub-01_ses-2', 'T1w ce-gd', 'T1w')
    """
    entities, suffix = _read_entities(file), _read_suffix(file)
    if "sub" not in entities:
        return "", "", suffix
    visit = "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
    channel = " ".join([suffix, *(f"{key}-{entities[key]}" for key in CHANNEL_ENTITIES if key in entities)])
    return visit, channel, suffix


def _read_entities(file: Path) -> dict[str, str]:
    parts = strip_suffix(file.name).split("_")[:-1]
    return {match[1]: match[2] for part in parts if (match := _ENTITY.fullmatch(part))}


def _read_suffix(file: Path) -> str:
    return strip_suffix(file.name).rpartition("_")[2]


def _choose_images(files: Sequence[Path], reasons: dict[Path, str]) -> dict[str, Path]:
    """One image a channel: the one with the fewest entities, such as the first run in the scanner's own space."""
    images: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: (len(_read_entities(file)), file.name)):
        first = images.setdefault(_parse_name(file)[1], file)
        if first != file:
            reasons[file] = f"another image of the same channel (a run or a space); {first.name} counts"
    return images


def _choose_channels(
    images: Mapping[str, Mapping[str, Path]],
) -> tuple[tuple[str, ...], dict[str, dict[str, Path]]]:
    """The channels that half of the visits have, by suffix alone where sites call them otherwise (acq-A, acq-B)."""
    by_visit = {visit: dict(files) for visit, files in images.items()}
    for _ in range(2):
        counts = Counter(channel for files in by_visit.values() for channel in files)
        channels = sorted(channel for channel, count in counts.items() if count * 2 >= len(by_visit))
        if channels:
            return tuple(channels), by_visit
        by_visit = {
            visit: {channel.partition(" ")[0]: file for channel, file in sorted(files.items(), reverse=True)}
            for visit, files in by_visit.items()
        }
    return (), by_visit


def _choose_labels(
    labels: Mapping[str, Sequence[Path]], root: Path, reasons: dict[Path, str]
) -> dict[str, tuple[LabelSource, ...]]:
    """Of segmentations in several spaces or by several methods, take those that most visits have."""
    variants = {file: _name_variant(file) for files in labels.values() for file in files}
    kinds = {file: MAP_SUFFIX if _read_suffix(file) == MAP_SUFFIX else "mask" for file in variants}
    best = {}
    for kind in set(kinds.values()):
        counts = Counter(variants[file] for file in variants if kinds[file] == kind)
        best[kind] = min(counts, key=lambda variant: (-counts[variant], len(variant), variant))
    chosen: dict[str, tuple[LabelSource, ...]] = {}
    for visit, files in labels.items():
        sources: list[LabelSource] = []
        for file in files:
            label = _make_label(file)
            twin = next((source for source in sources if _is_twin(source, label, root)), None)
            if variants[file] != best[kinds[file]]:
                names = [" ".join(variant) or "plain" for variant in (variants[file], best[kinds[file]])]
                reasons[file] = f"another segmentation of this visit ({names[0]}); those that are {names[1]} count"
            elif twin:
                reasons[file] = f"another segmentation of this visit; {_shorten(twin.path, root)} counts"
            else:
                sources.append(label)
        chosen[visit] = tuple(sources)
    return chosen


def _is_twin(first: LabelSource, second: LabelSource, root: Path) -> bool:
    """Whether both say the same: two maps, or masks of one class by two methods; a method may draw several lesions."""
    pipelines = {_shorten(label.path, root).partition("/sub-")[0] for label in (first, second)}
    return first.class_name == second.class_name and (not first.class_name or len(pipelines) > 1)


def _shorten(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _name_variant(file: Path) -> tuple[str, ...]:
    entities = _read_entities(file)
    keys = SPACES if not file.name.lower().partition(f"_{MAP_SUFFIX}.")[1] else (*SPACES, "desc")
    return tuple(f"{key}-{entities[key]}" for key in keys if key in entities)


def _make_label(file: Path) -> LabelSource:
    entities, suffix = _read_entities(file), _read_suffix(file)
    if suffix == MAP_SUFFIX:
        return LabelSource(file)
    return LabelSource(file, entities.get("label") or entities.get("desc") or suffix)


def _name_classes(
    folder: FolderFiles, root: Path, channels: tuple[str, ...], cases: list[LayoutCase], reasons: Mapping[Path, str]
) -> Layout:
    """Name the classes by masks, or by the table of a map; a case of both keeps its map."""
    maps = [label.path for case in cases for label in case.labels if not label.class_name]
    if not maps:
        layout = build_mask_layout("bids", folder, channels, cases)
        classes, unplaced = layout.classes, layout.unplaced
    else:
        classes = _read_map_table(maps, folder)
        cases = [replace(case, labels=tuple(file for file in case.labels if not file.class_name)[:1]) for case in cases]
        unplaced = folder.explain_unplaced([file for case in cases for file in case.files])
    return Layout(
        name="bids",
        root=root,
        channels=channels,
        classes=classes,
        cases=sort_cases(cases),
        unplaced={file: reasons.get(file, reason) for file, reason in unplaced.items()},
    )


def _read_map_table(maps: Sequence[Path], folder: FolderFiles) -> dict[str, tuple[int, ...]]:
    """The names of a map's values: the table beside a map, or the ``dseg.tsv`` of the data set and its method."""
    beside = [path.with_name(f"{strip_suffix(path.name)}.tsv") for path in maps]
    variant = _name_variant(maps[0])
    shared = [
        file for file in folder.files if file.name.endswith(f"{MAP_SUFFIX}.tsv") and not file.name.startswith("sub-")
    ]
    shared.sort(key=lambda file: _name_variant(file) != variant)
    table = next((path for path in (*beside, *shared) if path.is_file()), None)
    if table is None:
        return {}
    try:
        pairs = [(row["name"], int(row["index"])) for row in read_rows(table) or []]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("expected the columns index (whole numbers) and name", path=table) from error
    names = Counter(name for name, value in pairs if value != 0)
    if names and names.most_common(1)[0][1] > 1:
        raise DataError(f"two values are called {names.most_common(1)[0][0]!r}", path=table, where="name")
    return {name: (value,) for name, value in pairs if value != 0}
