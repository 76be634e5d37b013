"""Owns looking through a folder tree for DICOM objects, by their content and never by their name."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from voxflow.dicom.plain import read_header
from voxflow.errors import DataError
from voxflow.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from voxflow.dicom.headers import Header

# Below this, starting processes takes longer than reading.
PARALLEL_FROM_FILES = 10_000

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        headers: its DICOM objects, in the order of their paths, each SOPInstanceUID once.
        others: its other files.
        copies: number of files left out since another one has the same SOPInstanceUID.
    """

    headers: tuple[Header, ...]
    others: tuple[Path, ...]
    copies: int


def scan_folder(source: Path, workers: int | None = None) -> Scan:
    """Read the header of every file below ``source``.

    Raises:
        DataError: the folder is missing or empty.
    """
    files = list_files(source)
    with process_map(workers if len(files) >= PARALLEL_FROM_FILES else 1) as run:
        found = list(track(run(read_header, files), "reading headers", total=len(files)))
    headers: dict[str, Header] = {}
    for header in found:
        if header is not None:
            headers.setdefault(header.sop_uid, header)
    read = sum(header is not None for header in found)
    others = tuple(file for file, header in zip(files, found, strict=True) if header is None)
    return Scan(tuple(headers.values()), others, read - len(headers))


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


@contextmanager
def process_map(workers: int | None) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a ``map`` that keeps the order and works in several processes where that is asked for."""
    count = workers or os.cpu_count() or 1
    if count == 1:
        yield map
        return
    # Spawned, since a fork of a process with threads (SimpleITK's, torch's) may hang.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=1 if _few(items, count) else 64)


@contextmanager
def thread_map(workers: int | None) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a ``map`` that keeps the order, for work that spends its time outside of Python."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        yield pool.map


def _few(items: Iterable[T], count: int) -> bool:
    return isinstance(items, list) and len(items) < 64 * count
