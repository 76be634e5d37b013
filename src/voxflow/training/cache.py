"""Keeps cases after their deterministic transforms in a folder that all trainings of a machine share.

A case's file is named by a digest of what made it: the content of its image and label files, the transforms with their
arguments, and the versions of Voxflow and of the file format. So nothing is ever checked for being out of date: a
changed transform asks for another name, and files that nobody asks for grow old and are removed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxflow import __version__
from voxflow.training.casefile import MAGIC, CaseFile, CaseFileError, write_case
from voxflow.training.digests import DIGESTS, cache_folder, digest_case, digest_file, digest_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from voxflow.components import Chain, Sample
    from voxflow.datalist import Case
    from voxflow.training.options import CacheOptions

SUFFIX = ".case"
DAY_S = 86_400
GB = 1e9
READER = "reader 2"  # raised where the same files come to be read otherwise, so that cases are prepared anew


def identify_head(chain: Chain) -> list[Any]:
    """List what decides the result of a chain's deterministic transforms besides their input.

    Args:
        chain: its head and, where there is one, the first random transform.

    Returns:
        Plain values for :func:`voxflow.training.digests.digest_values`: format, version, and of each transform its
        class, its arguments and, for a user's own class, the digest of its source.
    """
    # The first random transform prepares each sample once, so it counts, too.
    return [MAGIC.decode(), READER, __version__, *map(_identify_transform, [*chain.head, *chain.tail[:1]])]


def _identify_transform(transform: Any) -> list[Any]:
    transform_type = type(transform)
    arguments = transform.model_dump(mode="json") if hasattr(transform, "model_dump") else repr(transform)
    module = sys.modules.get(transform_type.__module__)
    source = getattr(module, "__file__", None)
    # A user's own class has no version but its text.
    is_voxflow = transform_type.__module__.startswith("voxflow.") or source is None
    return [
        f"{transform_type.__module__}.{transform_type.__qualname__}",
        arguments,
        "" if is_voxflow else digest_file(Path(source or "")),
    ]


@dataclass(frozen=True)
class CaseCache:
    """Prepared cases on disk, shared by all trainings of a machine.

    Attributes:
        folder: holds one file a case.
        options: for how many days, and how many gigabytes, prepared cases are kept.
    """

    folder: Path
    options: CacheOptions

    @classmethod
    def open(cls, options: CacheOptions) -> CaseCache:
        """Open the folder ``cases`` below the one that the options name, or below the default one.

        The folder itself is made when the first case is written.
        """
        return cls((options.folder or cache_folder()) / "cases", options)

    def path_of(self, case: Case, head: list[Any]) -> Path:
        """The file of a case, which may not be there yet.

        Args:
            case: counts by the content of its image and label files, wherever they lie.
            head: as :func:`identify_head` lists it.

        Raises:
            DataError: a file of the case can't be read.
        """
        key = digest_values([head, digest_case(case)])
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def open_case(self, path: Path, build: Callable[[], Sample]) -> CaseFile:
        """Open a case's file; build it when it is missing or not whole. Of several processes, one builds.

        Args:
            path: as :meth:`path_of` returns it.
            build: makes the sample; called once, under the lock of the case's sub-folder.

        Raises:
            OSError: the disk is full, say.
        """
        with contextlib.suppress(FileNotFoundError, CaseFileError):
            return self._open_and_touch(path)
        with self._lock(path):
            with contextlib.suppress(FileNotFoundError, CaseFileError):
                return self._open_and_touch(path)
            write_case(path, build())
        return CaseFile(path)

    def _open_and_touch(self, path: Path) -> CaseFile:
        file = CaseFile(path)
        with contextlib.suppress(OSError):
            os.utime(path)  # prune goes by the time of the last use
        return file

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Let one process work on the files of a folder; a process that dies loses its lock."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:
            yield  # twice the work at worst: files are replaced whole
            return
        with (path.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def prune(self, keep: Iterable[Path]) -> tuple[int, int]:
        """Remove files that were not used for long, then the longest unused until the rest fits.

        Args:
            keep: files of the training that begins.

        Returns:
            How many were removed, and their bytes.
        """
        in_use, now = set(keep), time.time()
        files = sorted((status.st_mtime, status.st_size, path) for path, status in _list_files(self.folder))
        total, removed, freed = sum(size for _, size, _ in files), 0, 0
        for last_used, size, path in files:
            is_old = now - last_used > self.options.max_days * DAY_S
            if path in in_use or not (is_old or total - freed > self.options.max_gb * GB):
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                removed, freed = removed + 1, freed + size
        self._prune_digests(now)
        return removed, freed

    def _prune_digests(self, now: float) -> None:
        with contextlib.suppress(OSError):
            for path in (cache_folder() / DIGESTS).iterdir():
                if now - path.stat().st_mtime > self.options.max_days * DAY_S:
                    path.unlink()


def _list_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Cases, and what a killed process left half written."""
    for path in folder.glob("??/*"):
        is_half = path.name.startswith(".partial-")
        if path.suffix != SUFFIX and not is_half:
            continue
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat()
