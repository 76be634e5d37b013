"""Rows for the files that no case is made of, so that each file that was looked at is in conversion.csv."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from typing import TYPE_CHECKING

from voxflow.errors import join_names
from voxflow.files import describe_special_file
from voxflow.images.names import DATA_SUFFIXES, is_image_file, list_data_files
from voxflow.images.origins import RowOrigin, SourceNamer
from voxflow.images.table import ConversionRow, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# Images that are not read, and what to do with them.
TO_CONVERT = {
    **dict.fromkeys((".hdr", ".img", ".nhdr", ".mgz", ".mgh", ".mnc", ".gipl", ".vtk", ".mif"), "save it as NIfTI"),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5", ".mat"), "an array without a grid; save it as NIfTI"),
    **dict.fromkeys((".gif", ".webp", ".jp2", ".j2k", ".jxl", ".heic", ".svg"), "save it as a grey PNG"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"), "unpack it"),
}
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Only suffixes that say nothing of a patient are named.
TEXT_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html", ".pdf", ".log"),
    *(".bval", ".bvec", ".doc", ".docx", ".xls", ".xlsx", ".py", ".sh", ".ini", ".cfg", ".toml", ".dvc", ".sha256"),
)

_Kind = tuple[Verdict, str, str]


def describe_other_files(
    files: Iterable[Path], namer: SourceNamer, tables: Sequence[Path], *, copies: Sequence[Path] = ()
) -> list[ConversionRow]:
    """Describe the files that are neither DICOM nor images that can be read: one row for each kind, in a stable order.

    Args:
        files: all files that are no DICOM.
        namer: names them.
        tables: of findings and cases, which need no row.
        copies: DICOM files that hold the object of another file.

    Returns:
        Rows "quarantined" of files that should have been readable, and "skipped" of all others. A file that was meant
        to be an image has a row of its own, or with the DICOM files of its folder.
    """
    files = list(files)
    data_files = {data_file for file in files for data_file in list_data_files(file)}
    files_by_kind: dict[_Kind, list[Path]] = defaultdict(list)
    if copies:
        files_by_kind["skipped", "", "a copy of a DICOM object that another file holds"] = list(copies)
    for file in files:
        if file not in tables and not is_image_file(file) and file not in data_files:
            files_by_kind[_tell_kind(file)].append(file)
    rows = []
    for kind, members in sorted(files_by_kind.items()):
        is_meant_as_image = bool(kind[1])
        groups: dict[Path, list[Path]] = defaultdict(list)
        for file in members:
            # A series that can't be read is one row, as one that can.
            groups[file.parent if kind[1] == "DICOM" else file if is_meant_as_image else namer.source].append(file)
        rows += [_describe_group(kind, group, namer) for group in groups.values()]
    return rows


def _describe_group(kind: _Kind, files: Sequence[Path], namer: SourceNamer) -> ConversionRow:
    verdict, modality, reason = kind
    # Files in a folder of DICOM are often named after the patient.
    names = "" if namer.dicom_files else join_names([namer.name_file(file) for file in files])
    origin = RowOrigin(files[0], other_paths=tuple(files[1:]))
    return ConversionRow(verdict, reason, modality, len(files), source=names, origin=origin)


def _tell_kind(file: Path) -> _Kind:
    suffix = file.suffix.lower()
    special = describe_special_file(file)
    if special:
        return "quarantined", "file", f"{special}, expected a file; it is not opened"
    if suffix in TEXT_SUFFIXES:
        return "skipped", "", f"no image ({suffix})"
    try:
        status = file.stat()
    except FileNotFoundError:
        return "quarantined", "file", "a link to nothing"
    except OSError as error:
        return "quarantined", "file", f"can't be read: {error.strerror}"
    if stat.S_ISDIR(status.st_mode):
        return "quarantined", "folder", "a folder that may not be read"
    if suffix in TO_CONVERT:
        return "skipped", suffix[1:], f"an image or an archive that is not read ({suffix}): {TO_CONVERT[suffix]}"
    if not os.access(file, os.R_OK):
        return "quarantined", "file", "a file that may not be read"
    if suffix in DATA_SUFFIXES:
        return "skipped", suffix[1:], "voxels without a header of the same name (.mhd); save the image as NIfTI"
    if suffix in DICOM_SUFFIXES and status.st_size == 0:
        return "quarantined", "DICOM", "an empty file"
    if suffix in DICOM_SUFFIXES:
        return "quarantined", "DICOM", f"no DICOM, although its name ends in {suffix}"
    return "skipped", "", "no image: neither DICOM nor of a known suffix"
