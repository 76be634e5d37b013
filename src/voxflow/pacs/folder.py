"""A folder that others drop DICOM files into, as an archive: what is complete there can be fetched."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from voxflow.dicom import read_header
from voxflow.errors import DataError, PacsError
from voxflow.files import atomic_path
from voxflow.images import list_files
from voxflow.pacs.archive import RemoteSeries, check_uid, is_uid
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.dicom import DicomHeader
    from voxflow.pacs.archive import Query


class DropFolder:
    """A folder of DICOM files, as an archive.

    Args:
        folder: the folder, with any folders in it.
        quiet_s: a file that was written to since then may still be growing, and is not there yet.
        empty: remove files once their series is safe.
    """

    def __init__(self, folder: Path, *, quiet_s: float = 0, empty: bool = False) -> None:
        self.name = str(folder)
        self._folder, self._quiet_s, self._empty = folder, quiet_s, empty
        self._headers_by_series: dict[str, list[DicomHeader]] = {}
        self.fresh_count = 0  # files that were written to since then, at the last find

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        """Find the series in the folder; the study's date does not matter, since who drops a file wants it taken.

        Raises:
            DataError: the folder is missing.
        """
        if not self._folder.is_dir():
            raise DataError("no such folder; it is where DICOM files are dropped", path=self._folder)
        self._headers_by_series = self._group_files()
        for uid, headers in self._headers_by_series.items():
            first = headers[0]
            if not query.modalities or first.modality in query.modalities:
                study = check_uid(first.study_uid, self.name)
                yield RemoteSeries(study, check_uid(uid, self.name), first.modality, "", len(headers))

    def list_instances(self, series: RemoteSeries) -> list[str]:
        """List what the folder held of a series at the last :meth:`find`."""
        return [check_uid(header.sop_uid, self.name) for header in self._headers_by_series.get(series.series_uid, ())]

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Copy objects of a series, each whole or not at all.

        Raises:
            PacsError: a file was taken away while it was read.
        """
        for header in self._headers_by_series.get(series.series_uid, ()):
            if header.sop_uid in sop_uids:
                try:
                    with atomic_path(folder / f"{header.sop_uid}.dcm") as temporary:
                        shutil.copyfile(header.path, temporary)
                except FileNotFoundError as error:
                    raise PacsError(f"{header.path}: it was taken away while it was read") from error

    def store(self, files: Sequence[Path]) -> None:
        """Do nothing: results lie where they were made."""

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Remove the files of a series that is safe, where the folder is to be emptied."""
        # Only what was taken: a file that came since stays.
        if self._empty:
            for header in self._headers_by_series.get(series.series_uid, ()):
                if header.sop_uid in sop_uids:
                    header.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _group_files(self) -> dict[str, list[DicomHeader]]:
        try:
            files = list_files(self._folder)
        except DataError:
            return {}
        latest_change = time.time() - self._quiet_s
        headers_by_series: dict[str, dict[str, DicomHeader]] = {}
        self.fresh_count = unreadable_count = 0
        for file in files:
            try:
                is_complete = file.stat().st_mtime <= latest_change
            except FileNotFoundError:
                continue
            self.fresh_count += not is_complete
            header = read_header(file) if is_complete else None
            is_usable = header is not None and not header.fault and _has_uids(header)
            unreadable_count += is_complete and not is_usable
            if header is not None and is_usable:
                headers_by_series.setdefault(header.series_uid, {}).setdefault(header.sop_uid, header)
        if unreadable_count:
            # Their names may be patients'.
            say(f"{self.name}: {unreadable_count} file(s) are no DICOM that can be read, and stay there")
        return {uid: list(headers.values()) for uid, headers in headers_by_series.items()}


def _has_uids(header: DicomHeader) -> bool:
    """Whether a file says which object of which series it is; one that was cut off may not."""
    return all(is_uid(uid) for uid in (header.sop_uid, header.series_uid, header.study_uid))
