"""Reads BIDS data sets: raw images by subject and session, and labels of the same names in derivatives/."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
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
NO_IMAGE = "no image of this subject and session"
_ENTITY = re.compile(r"([a-zA-Z0-9]+)-([a-zA-Z0-9]+)")


def recognise_bids(folder: FolderFiles) -> Layout | None:
    """Read a BIDS data set with labels in derivatives: ``_dseg`` maps with a table, or ``_mask`` and ``_roi`` files.

    A case is a session of a subject, or a subject without sessions. A channel is a suffix (T1w, FLAIR, pet) with the
    entities that tell two of them apart (ce-gd). Channels that fewer than half of the cases have are left out.

    Returns:
        None where no dataset_description.json states a BIDSVersion.

    Raises:
        DataError: the description is no JSON.
    """
    root = _find_root(folder)
    if root is None:
        return None
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    labels: dict[str, list[Path]] = defaultdict(list)
    for parent, files in folder.by_folder.items():
        is_derived = DERIVATIVES in parent.relative_to(root).parts if parent.is_relative_to(root) else True
        for file in files:
            visit, channel, suffix = _parse_name(file)
            if visit and suffix in (MAP_SUFFIX, *MASK_SUFFIXES):
                labels[visit].append(file)
            elif visit and not is_derived:
                images[visit].setdefault(channel, file)
    channels = _choose_channels(list(images.values()))
    cases = [
        LayoutCase(
            name=visit,
            patient=visit.partition("_")[0],
            channels=tuple(ChannelSource(files[name]) if name in files else None for name in channels),
            labels=tuple(_make_label(file) for file in labels.get(visit, ())),
        )
        for visit, files in images.items()
    ]
    reasons = {file: NO_IMAGE for visit, files in labels.items() if visit not in images for file in files}
    return _name_classes(folder, root, channels, cases, reasons)


def _find_root(folder: FolderFiles) -> Path | None:
    """The highest folder with a description; those below derivatives have one of their own."""
    for path in sorted((file for file in folder.files if file.name == DESCRIPTION), key=lambda file: len(file.parts)):
        content = parse_json(read_text(path), path)
        if isinstance(content, dict) and "BIDSVersion" in content:
            return path.parent
    return None


def _parse_name(file: Path) -> tuple[str, str, str]:
    """The visit, the channel and the suffix that a BIDS name tells; an empty visit where it is none.

    Example:
        >>> from pathlib import Path
        >>> _parse_name(Path("sub-01_ses-2_ce-gd_T1w.nii.gz"))
        ('sub-01_ses-2', 'T1w ce-gd', 'T1w')
    """
    *parts, suffix = strip_suffix(file.name).split("_")
    entities = {match[1]: match[2] for part in parts if (match := _ENTITY.fullmatch(part))}
    if "sub" not in entities:
        return "", "", suffix
    visit = "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
    channel = " ".join([suffix, *(f"{key}-{entities[key]}" for key in CHANNEL_ENTITIES if key in entities)])
    return visit, channel, suffix


def _choose_channels(images: Sequence[Mapping[str, Path]]) -> tuple[str, ...]:
    counts = Counter(channel for files in images for channel in files)
    return tuple(sorted(channel for channel, count in counts.items() if count * 2 >= len(images)))


def _make_label(file: Path) -> LabelSource:
    *parts, suffix = strip_suffix(file.name).split("_")
    if suffix == MAP_SUFFIX:
        return LabelSource(file)
    name = next((part.partition("-")[2] for part in parts if part.startswith(("label-", "desc-"))), suffix)
    return LabelSource(file, name)


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
        cases = [_keep_map(case) for case in cases]
        unplaced = folder.explain_unplaced([file for case in cases for file in case.files])
    return Layout(
        name="bids",
        root=root,
        channels=channels,
        classes=classes,
        cases=sort_cases(cases),
        unplaced={file: reasons.get(file, reason) for file, reason in unplaced.items()},
    )


def _keep_map(case: LayoutCase) -> LayoutCase:
    maps = tuple(label for label in case.labels if not label.class_name)
    return LayoutCase(case.name, case.patient, case.channels, maps[:1], case.part)


def _read_map_table(maps: Sequence[Path], folder: FolderFiles) -> dict[str, tuple[int, ...]]:
    """The names of a map's values: the table beside the first map, or the one ``dseg.tsv`` of the data set."""
    beside = [path.with_name(f"{strip_suffix(path.name)}.tsv") for path in maps]
    shared = [file for file in folder.files if file.name.endswith(f"{MAP_SUFFIX}.tsv")]
    table = next((path for path in (*beside, *shared) if path.is_file()), None)
    if table is None:
        return {}
    rows = read_rows(table) or []
    try:
        return {row["name"]: (int(row["index"]),) for row in rows if int(row["index"]) != 0}
    except (KeyError, ValueError) as error:
        raise DataError("expected the columns index (whole numbers) and name", path=table) from error
