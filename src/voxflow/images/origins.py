"""What a file is called in an output: by its path, or by a pseudonym where a path may hold a patient's name.

DICOM exports name folders and files after patients. Files that are no DICOM are found by their names, so those stay,
but not the names of folders that hold DICOM. The owner's mapping leads from every name to the path.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.images.names import IMAGE_FOLDERS, LABEL_FOLDERS
from voxflow.texts import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.images.table import ConversionRow

DIGEST_LENGTH = 12


@dataclass(frozen=True)
class RowOrigin:
    """Where the files of a row lie, and whose they are; for the owner's mapping alone, never for an output.

    Attributes:
        path: the file, or the folder that all files of the row lie in.
        patient_id: PatientID (0010,0020).
        other_paths: further files of a row that stands for several single ones.
    """

    path: Path
    patient_id: str = ""
    other_paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SourceNamer:
    """Names files and folders in the outputs of a conversion.

    Attributes:
        source: the folder that was searched.
        key: the secret of the pseudonyms.
        dicom_files: all DICOM files below the source.
    """

    source: Path
    key: bytes = field(repr=False)
    dicom_files: Sequence[Path] = ()

    def name_file(self, path: Path) -> str:
        """The path of a file that is no DICOM, below the source; folders that hold DICOM get a pseudonym.

        Letters that no screen shows, such as the end of a line, are written as Python writes them.
        """
        *folders, name = path.relative_to(self.source).parts
        parts, folder = [], self.source
        for part in folders:
            folder /= part
            is_private = str(folder) in self._dicom_folders and part.lower() not in IMAGE_FOLDERS + LABEL_FOLDERS
            parts.append(self.make_pseudonym(folder, "folder") if is_private else part)
        return escape("/".join([*parts, name]))

    def make_pseudonym(self, path: Path, kind: str = "") -> str:
        """A name that says nothing, and is the same in every conversion with the same key.

        Args:
            path: a file or folder below the source.
            kind: "folder" or "file"; empty asks the disk.
        """
        kind = kind or ("folder" if path.is_dir() else "file")
        text = os.fsencode(path.relative_to(self.source).as_posix())
        return f"{kind}-{hmac.new(self.key, text, hashlib.sha256).hexdigest()[:DIGEST_LENGTH]}"

    def name_rows(self, rows: Iterable[ConversionRow]) -> list[ConversionRow]:
        """Give rows that have no name of their own a pseudonym."""
        return [
            replace(row, source=self.make_pseudonym(row.origin.path)) if row.origin and not row.source else row
            for row in rows
        ]

    @cached_property
    def _dicom_folders(self) -> frozenset[str]:
        """All folders below the source that hold DICOM, at any depth."""
        folders = _list_folders(self.dicom_files)
        return frozenset(str(parent) for folder in folders for parent in (Path(folder), *Path(folder).parents))


def find_patient_folders(files: Iterable[tuple[Path, str]], source: Path) -> dict[Path, str]:
    """Find the folders below a source that hold, at any depth, files of one patient alone.

    Returns:
        The patient by folder.

    Example:
        >>> folders = find_patient_folders([(Path("in/a/1.dcm"), "ann"), (Path("in/b/x/2.dcm"), "bob")], Path("in"))
        >>> {folder.as_posix(): patient for folder, patient in folders.items()}
        {'in/a': 'ann', 'in/b/x': 'bob', 'in/b': 'bob'}
    """
    patients: dict[Path, set[str]] = {}
    for folder, patient in {(os.path.dirname(file), patient): None for file, patient in files}:  # noqa: PTH120
        for parent in (Path(folder), *Path(folder).parents):
            if parent != source and parent.is_relative_to(source):
                patients.setdefault(parent, set()).add(patient)
    return {folder: next(iter(names)) for folder, names in patients.items() if len(names) == 1}


def find_common_path(paths: Iterable[Path]) -> Path:
    """The file itself, or the folder that all files lie in.

    Example:
        >>> find_common_path([Path("a/b/1.dcm"), Path("a/c/1.dcm")]).as_posix()
        'a'
    """
    files = list(paths)
    if len(files) == 1:
        return files[0]
    return Path(os.path.commonpath(_list_folders(files)))


def _list_folders(files: Iterable[Path]) -> set[str]:
    """The folders of many files, which are few; pathlib would take ten times longer."""
    return {os.path.dirname(file) for file in files}  # noqa: PTH120
