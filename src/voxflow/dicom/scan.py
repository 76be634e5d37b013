"""Looking through a folder tree for DICOM objects, by their content and never by their name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.dicom.plain import read_header
from voxflow.executor import process_map
from voxflow.images import list_files
from voxflow.progress import track

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.dicom.headers import DicomHeader

# Below this, starting processes takes longer than reading.
PARALLEL_FROM_FILES = 10_000


@dataclass(frozen=True)
class FolderScan:
    """The DICOM objects and other files of a folder tree.

    Attributes:
        headers: its DICOM objects, in the order of their paths, each SOPInstanceUID once.
        other_files: its other files.
        copies: number of files left out since another one has the same SOPInstanceUID.
    """

    headers: tuple[DicomHeader, ...]
    other_files: tuple[Path, ...]
    copies: int


def scan_folder(source: Path, workers: int | None = None) -> FolderScan:
    """Read the header of every file below ``source``.

    Raises:
        DataError: the folder is missing or empty.
    """
    files = list_files(source)
    with process_map(workers if len(files) >= PARALLEL_FROM_FILES else 1) as run:
        header_by_file = list(track(run(read_header, files), "reading headers", total=len(files)))
    headers: dict[str, DicomHeader] = {}
    for header in header_by_file:
        if header is not None:
            headers.setdefault(header.sop_uid, header)
    readable_count = sum(header is not None for header in header_by_file)
    other_files = tuple(file for file, header in zip(files, header_by_file, strict=True) if header is None)
    return FolderScan(tuple(headers.values()), other_files, readable_count - len(headers))
