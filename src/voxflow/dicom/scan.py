"""Looking through a folder tree for DICOM objects, by their content and never by their name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from filecmp import cmp
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import PARSE_ERRORS, read_dataset
from voxflow.dicom.plain import read_header, read_plain_values
from voxflow.executor import process_map
from voxflow.images import list_files
from voxflow.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.dicom.headers import DicomHeader

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


def scan_folder(source: Path, workers: int | None = None) -> FolderScan:
    """Read the header of every file below ``source``.

    Raises:
        DataError: the folder is missing or empty.
    """
    files = list_files(source)
    with process_map(workers if len(files) >= PARALLEL_FROM_FILES else 1) as run:
        header_by_file = list(track(run(read_header, files), "reading headers", total=len(files)))
    headers = [header for header in header_by_file if header is not None]
    distinct_headers = _leave_out_copies(headers)
    other_files = tuple(file for file, header in zip(files, header_by_file, strict=True) if header is None)
    distinct_files = {header.path for header in distinct_headers}
    copies = tuple(header.path for header in headers if header.path not in distinct_files)
    return FolderScan(tuple(distinct_headers), other_files, copies)


def _leave_out_copies(headers: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Keep the first of objects that are the same; a SOPInstanceUID alone proves nothing, anonymisers repeat it."""
    first_by_uid: dict[str, list[DicomHeader]] = {}
    distinct_headers = []
    for header in headers:
        namesakes = first_by_uid.setdefault(header.sop_uid, []) if header.sop_uid else []
        if any(_is_same_object(header, namesake) for namesake in namesakes):
            continue
        namesakes.append(header)
        distinct_headers.append(header)
    return distinct_headers


def _is_same_object(header: DicomHeader, namesake: DicomHeader) -> bool:
    """Whether two objects of one UID have one header, as far as it is read, and the same pixels."""
    pixels = replace(header.pixels, offset=0) if header.pixels else None
    other_pixels = replace(namesake.pixels, offset=0) if namesake.pixels else None
    if replace(header, path=namesake.path, pixels=other_pixels) != replace(namesake, pixels=other_pixels):
        return False
    if pixels != other_pixels:
        return False
    if header.pixels and namesake.pixels:
        return bool(np.array_equal(read_plain_values(header), read_plain_values(namesake)))
    if cmp(header.path, namesake.path, shallow=False):
        return True
    # One of them may have been stored anew, with another preamble or private attributes.
    try:
        values = [read_dataset(path, pixels=True).get("PixelData") for path in (header.path, namesake.path)]
    except PARSE_ERRORS:
        return False
    return values[0] is not None and values[0] == values[1]
