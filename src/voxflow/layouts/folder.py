"""The files of one folder tree, as the readers of layouts ask for them."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

from voxflow.files import describe_special_file
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

NO_PLACE = "the layout has no place for it"


class FolderFiles:
    """All files below a folder.

    Args:
        source: the folder.
        files: all files below it, in any order. Hidden ones, such as macOS's ``._case.nii.gz``, are left out.
    """

    def __init__(self, source: Path, files: Iterable[Path]) -> None:
        self.source = source
        self.files = tuple(sorted(file for file in files if not file.name.startswith(".")))

    @cached_property
    def by_folder(self) -> Mapping[Path, tuple[Path, ...]]:
        """The volumes that lie in each folder itself, by name."""
        folders: dict[Path, list[Path]] = defaultdict(list)
        for file in self.files:
            if is_volume(file):
                folders[file.parent].append(file)
        return {folder: tuple(files) for folder, files in folders.items()}

    def list_volumes(self, folder: Path) -> tuple[Path, ...]:
        """The volumes that lie in one folder itself, by name; none where there is no such folder."""
        return self.by_folder.get(folder, ())

    def shorten(self, path: Path) -> str:
        """A path below the source, as a message says it."""
        return path.relative_to(self.source).as_posix()

    def explain_unplaced(self, placed: Collection[Path], reasons: Mapping[Path, str] | None = None) -> dict[Path, str]:
        """Volumes that no case has taken, with the reason.

        Args:
            placed: files that a case or the layout itself has taken.
            reasons: of some files; the others get a general one.
        """
        taken = set(placed)
        volumes = (file for files in self.by_folder.values() for file in files)
        return {file: (reasons or {}).get(file, NO_PLACE) for file in sorted(volumes) if file not in taken}


def describe_unusable(path: Path) -> str:
    """Say why a file that a table lists can't be read; empty where it may be. It is not opened."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except (OSError, ValueError) as error:
        return f"can't be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    if special := describe_special_file(path):
        return f"is {special}"
    if status.st_size == 0:
        return "is empty"
    return "" if os.access(path, os.R_OK) else "may not be read"


def is_volume(path: Path) -> bool:
    """Whether a file's name says that it holds voxels of three dimensions or more."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)
