"""Tells which known layout a folder has: each layout's reader is asked, the strictest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from voxflow.errors import DataError, join_names
from voxflow.layouts.bids import recognise_bids
from voxflow.layouts.brats import recognise_brats
from voxflow.layouts.dataset_json import recognise_msd, recognise_nnunet
from voxflow.layouts.folder import FolderFiles
from voxflow.layouts.listing import recognise_table
from voxflow.layouts.masks import recognise_masks, recognise_totalsegmentator
from voxflow.layouts.model import TITLES, sort_cases
from voxflow.layouts.slicer import recognise_slicer
from voxflow.naming import clean_channel_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from voxflow.layouts.model import Layout, LayoutName

# A description that the data set holds says more than the names of its files.
READERS: Mapping[LayoutName, Callable[[FolderFiles], Layout | None]] = {
    "nnunet": recognise_nnunet,
    "msd": recognise_msd,
    "bids": recognise_bids,
    "table": recognise_table,
    "slicer": recognise_slicer,
    "totalsegmentator": recognise_totalsegmentator,
    "brats": recognise_brats,
    "masks": recognise_masks,
}


def recognise_layout(source: Path, files: Iterable[Path], name: LayoutName | None = None) -> Layout | None:
    """Tell the layout of a folder, and which files each case has.

    Args:
        source: the folder.
        files: all files below it.
        name: the layout to read it by; None: the first that fits.

    Returns:
        None where no known layout fits and ``name`` is None.

    Raises:
        DataError: the folder does not have the layout ``name``, or a description in it is wrong.
    """
    folder = FolderFiles(source, files)
    readers = READERS if name is None else {name: READERS[name]}
    layout = next((layout for read in readers.values() if (layout := read(folder))), None)
    if layout is None and name is not None:
        raise DataError(f"does not look like {TITLES[name]}", path=source)
    return _name_channels(_name_apart(layout, folder)) if layout else None


def _name_channels(layout: Layout) -> Layout:
    """Clean the names of channels, which others' files choose freely; a remark says what was changed."""
    names = clean_channel_names(layout.channels)
    changed = [f"{old!r} → {new!r}" for old, new in zip(layout.channels, names, strict=True) if old != new]
    remark = f"channels are called otherwise here: {join_names(changed)}"
    return replace(layout, channels=names, remarks=(*layout.remarks, *([remark] if changed else [])))


def _name_apart(layout: Layout, folder: FolderFiles) -> Layout:
    """Put the folder before the names of cases that are called alike, as in train/s0001 and test/s0001."""
    counts = Counter(case.name for case in layout.cases)
    if len(counts) == len(layout.cases):
        return layout
    cases = []
    for case in layout.cases:
        name = case.name
        if counts[name] > 1:
            place = PurePosixPath(folder.shorten(case.files[0])).parent
            name = (place if place.name == name else place / name).as_posix()
        cases.append(replace(case, name=name, patient=name if case.patient == case.name else case.patient))
    return replace(layout, cases=sort_cases(cases))
