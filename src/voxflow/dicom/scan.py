"""Owns looking through a folder tree for DICOM objects, by their content and never by their name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.dicom.plain import read_header
from voxflow.errors import DataError
from voxflow.executor import process_map
from voxflow.progress import track

if TYPE_CHECKING:
    from voxflow.dicom.headers import DicomHeader

# Below this, starting processes takes longer than reading.
PARALLEL_FROM_FILES = 10_000


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds.

    Attributes:
        headers: its DICOM objects, in the order of their paths, each SOPInstanceUID once.
        others: its other files.
        copies: number of files left out since another one has the same SOPInstanceUID.
    """

    headers: tuple[DicomHeader, ...]
    others: tuple[Path, ...]
    copies: int


def scan_folder(source: Path, workers: int | None = None) -> FolderScan:
    """Read the header of every file below ``source``.

    Raises:
        DataError: the folder is missing or empty.
    """
    files = list_files(source)
    with process_map(workers if len(files) >= PARALLEL_FROM_FILES else 1) as run:
        found = list(track(run(read_header, files), "reading headers", total=len(files)))
    headers: dict[str, DicomHeader] = {}
    for header in found:
        if header is not None:
            headers.setdefault(header.sop_uid, header)
    read = sum(header is not None for header in found)
    others = tuple(file for file, header in zip(files, found, strict=True) if header is None)
    return FolderScan(tuple(headers.values()), others, read - len(headers))


def list_files(source: Path) -> list[Path]:
    """All files below ``source`` in the order of their paths, hidden ones left out."""
    if not source.is_dir():
        raise DataError("no such folder", path=source)
    files = []
    for folder, names, here in os.walk(source):
        names[:] = sorted(name for name in names if not name.startswith("."))
        files += [Path(folder) / name for name in sorted(here) if not name.startswith(".")]
    if not files:
        raise DataError("the folder is empty; expected DICOM, NIfTI (or MHA, NRRD) or PNG files", path=source)
    return files
