"""Looking through a folder tree for DICOM objects, by their content and never by their name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.files import DICOM_SUFFIXES, find_name_kind
from voxflow.dicom.headers import PARSE_ERRORS, describe_unreadable, read_dataset
from voxflow.dicom.pixels import decode_stored_values, read_rescale
from voxflow.dicom.plain import read_header, read_plain_values
from voxflow.errors import DicomError
from voxflow.executor import process_map
from voxflow.images import list_files
from voxflow.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxflow.dicom.headers import DicomHeader

# Of so many objects of one header, each with other pixels, another one may be a copy; of more, nobody made them.
MAX_NAMESAKES = 4
# Below this, starting processes takes longer than reading.
PARALLEL_FROM_FILES = 10_000


@dataclass(frozen=True)
class FolderScan:
    """The DICOM objects and other files of a folder tree.

    Attributes:
        headers: its DICOM objects, in the order of their paths; those that can't be read have a ``fault``.
        other_files: its other files.
        copies: files left out since another one holds the same object.
    """

    headers: tuple[DicomHeader, ...]
    other_files: tuple[Path, ...]
    copies: tuple[Path, ...]


def scan_folder(source: Path, workers: int | None = None, *, without: Path | None = None) -> FolderScan:
    """Read the header of every file below ``source``.

    Args:
        source: the folder.
        workers: processes; None takes the number of cores.
        without: a folder below it that is left out.

    Raises:
        DataError: the folder is missing or empty.
    """
    files = list_files(source, without)
    with process_map(workers if len(files) >= PARALLEL_FROM_FILES else 1) as run:
        header_by_file = list(track(run(read_header, files, describe_unreadable), "reading headers", total=len(files)))
    headers = [header for header in header_by_file if header is not None]
    other_files = [file for file, header in zip(files, header_by_file, strict=True) if header is None]
    names = {(header.path.parent, find_name_kind(header.path)) for header in headers}
    folders = {folder for folder, _ in names}
    lost_files = {
        file: fault
        for file in other_files
        if file.parent in folders
        and (fault := _find_fault(file, is_alike=(file.parent, find_name_kind(file)) in names))
    }
    headers += [describe_unreadable(file, fault) for file, fault in lost_files.items()]
    distinct_headers, copies = _find_copies(headers)
    return FolderScan(
        tuple(distinct_headers), tuple(file for file in other_files if file not in lost_files), tuple(copies)
    )


def _find_fault(file: Path, *, is_alike: bool) -> str:
    """Why a file beside DICOM files is none, though its name is one of theirs or alike; empty where it is not."""
    suffix = file.suffix.lower()
    if not (is_alike or suffix in DICOM_SUFFIXES) or not file.is_file():
        return ""
    if file.stat().st_size == 0:
        return "an empty file"
    return f"no DICOM, although its name ends in {suffix}" if suffix in DICOM_SUFFIXES else ""


def _find_copies(headers: Sequence[DicomHeader]) -> tuple[list[DicomHeader], list[Path]]:
    """The first of objects that are the same, and files of the others; their content decides, not the UID."""
    uses = Counter(header.sop_uid for header in headers)
    first_by_content: dict[DicomHeader, list[int]] = {}
    distinct_headers: list[DicomHeader] = []
    copies = []
    for header in headers:
        # All that a header says is compared at once: broken anonymisers give all objects of a hospital one UID.
        is_unique = not header.sop_uid or uses[header.sop_uid] == 1
        namesakes = [] if is_unique else first_by_content.setdefault(_drop_place(header), [])
        if any(_is_same_object(header, distinct_headers[n]) for n in namesakes):
            copies.append(header.path)
            continue
        checked_header = header
        for n in namesakes:
            checked_header, distinct_headers[n] = _mark_broken_copy(checked_header, distinct_headers[n])
        # Each is compared pixel by pixel with those before it.
        if len(namesakes) < MAX_NAMESAKES:
            namesakes.append(len(distinct_headers))
        distinct_headers.append(checked_header)
    return distinct_headers, copies


def _mark_broken_copy(header: DicomHeader, namesake: DicomHeader) -> tuple[DicomHeader, DicomHeader]:
    """Of two objects of one header and other content, mark the one whose pixels can't be read if the other's can."""
    is_plain = header.pixels is not None and namesake.pixels is not None
    if header.plane.rows and not is_plain and not header.fault and not namesake.fault:
        is_readable = [_has_readable_pixels(header), _has_readable_pixels(namesake)]
        fault = "a broken copy, whose pixels can't be read, of an object that another file holds whole"
        if is_readable == [False, True]:
            return replace(header, fault=fault), namesake
        if is_readable == [True, False]:
            return header, replace(namesake, fault=fault)
    return header, namesake


def _has_readable_pixels(header: DicomHeader) -> bool:
    try:
        decode_stored_values(read_dataset(header.path, pixels=True))
    except (DicomError, *PARSE_ERRORS):
        return False
    return True


def _drop_place(header: DicomHeader) -> DicomHeader:
    """What a header says, without where it lies and where its pixels are."""
    return replace(header, path=Path(), pixels=None)


def _is_same_object(header: DicomHeader, namesake: DicomHeader) -> bool:
    """Whether two objects of one header, as far as it is read, have the same pixels."""
    pixels, other_pixels = header.pixels, namesake.pixels
    try:
        if pixels and other_pixels:
            return replace(pixels, offset=0) == replace(other_pixels, offset=0) and bool(
                np.array_equal(read_plain_values(header), read_plain_values(namesake))
            )
        return cmp(header.path, namesake.path, shallow=False) or _has_same_content(header.path, namesake.path)
    except (DicomError, *PARSE_ERRORS):
        return False


def _has_same_content(path: Path, other_path: Path) -> bool:
    """Whether objects differ in how they were stored alone: preamble, private attributes, lossless compression."""
    datasets = [read_dataset(path, pixels=True) for path in (path, other_path)]
    if any("PixelData" in dataset for dataset in datasets):
        first, second = (decode_stored_values(dataset) for dataset in datasets)
        meanings = [(read_rescale(d), d.get("PerFrameFunctionalGroupsSequence")) for d in datasets]
        return meanings[0] == meanings[1] and np.array_equal(first, second)
    for dataset in datasets:
        dataset.remove_private_tags()
    return bool(datasets[0] == datasets[1])
