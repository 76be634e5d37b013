"""Lists the files of a folder tree; links are followed, and each folder is read once."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from voxflow.errors import DataError
from voxflow.images.names import is_image_file
from voxflow.leftovers import PARTIAL


def list_files(source: Path, without: Path | None = None) -> list[Path]:
    """List all files below a folder, in the order of their paths.

    A folder that several links lead to is listed once, under its own path where that lies below ``source``. A link to
    a folder that ``source`` lies in is not followed. Hidden folders and files are left out, but for hidden images. A
    folder that may not be read is listed like a file, so that whoever reads it finds the fault.

    Args:
        source: the folder.
        without: a folder that is left out, such as the output of the time before.

    Raises:
        DataError: the folder is missing or empty.
    """
    if not source.is_dir():
        raise DataError("no such folder", path=source)
    files: list[Path] = []
    seen_folders = {_identify(folder) for folder in source.resolve().parents}
    if without is not None and without.is_dir():
        seen_folders.add(_identify(without))
    pending = deque([source])
    while pending:
        # Links come last, so that a folder below the source has its own path.
        folder = pending.popleft()
        if _identify(folder) not in seen_folders:
            pending += _walk(folder, files, seen_folders)
    if not files:
        raise DataError("the folder is empty; expected DICOM, NIfTI (or MHA, NRRD) or PNG files", path=source)
    return files


def _walk(root: Path, files: list[Path], seen_folders: set[tuple[int, int]]) -> list[Path]:
    """Add the files below a folder; returns the links to other folders, which are not followed."""
    links: list[Path] = []
    unreadable: list[str] = []
    for folder, folder_names, file_names in os.walk(root, onerror=lambda error: unreadable.append(error.filename)):
        folder_names[:] = sorted(name for name in folder_names if not name.startswith("."))
        parent = Path(folder)
        # A path may be longer than the system takes.
        unreadable.extend(str(parent / name) for name in folder_names if not _is_reachable(parent / name))
        folder_names[:] = [name for name in folder_names if _is_reachable(parent / name)]
        links += [parent / name for name in folder_names if (parent / name).is_symlink()]
        seen_folders.add(_identify(parent))
        # A link may have led into the middle of a tree that is read from its top now.
        folder_names[:] = [name for name in folder_names if _identify(parent / name) not in seen_folders]
        files += [parent / name for name in sorted(file_names) if not _is_hidden(name)]
    files += map(Path, unreadable)
    return links


def _identify(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_reachable(folder: Path) -> bool:
    try:
        folder.stat()
    except OSError:
        return False
    return True


def _is_hidden(name: str) -> bool:
    # macOS keeps a file's attributes beside it, as ._NAME.
    return name.startswith(("._", PARTIAL)) or (name.startswith(".") and not is_image_file(Path(name)))
