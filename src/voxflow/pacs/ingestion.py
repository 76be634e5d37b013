"""Fetches new series, each once and completely, and continues after an interruption.

A series is fetched into a hidden folder beside its place and moved there when it is whole. One that grows later on is
completed by the files that it lacks. The ledger notes how many objects were seen and since when, so that a series that
a scanner is still sending is left for the next round.
"""

from __future__ import annotations

import contextlib
import fnmatch
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from voxflow.errors import PacsError
from voxflow.pacs.archive import Query
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection

    from voxflow.pacs.archive import Archive, RemoteSeries
    from voxflow.pacs.ledger import Ledger

# Left alone by git, by DVC and by every scan of the folder.
PARTIAL = ".partial-ingest"
LABEL_MODALITIES = ("SEG", "RTSTRUCT")
# Nobody goes on with what lay there for so long; another workspace may fetch into the same inbox.
ABANDONED_S = 3600


class IngestOptions(BaseModel):
    """The options of ingestion: the keys of ``workspaces.WS.ingest`` in params.yaml.

    Attributes:
        pacs: the archive, an entry below ``pacs`` in params.yaml.
        folder: a folder that studies are dropped into, in place of a PACS.
        into: where series land, as STUDY/SERIES/OBJECT.dcm; None: ``data/inbox/WS``. A workspace that trains on
            what arrives names its ``source`` here.
        modalities: Modality (0008,0060); None: all. Masks that we sent ourselves are never taken.
        description: of the series, with ``*`` and ``?``, upper and lower case alike; None: any.
        days: the study is at most so many days old; None: of any age. A folder's files are taken whatever their date.
        min_instances: series of fewer objects are left, as localizers are.
        settle_s: a series is taken when it has not grown for so long: a scanner may still be sending.
        empty_folder: remove files from ``folder`` once they are safe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pacs: str | None = None
    folder: Path | None = None
    into: Path | None = None
    modalities: tuple[str, ...] | None = Field(default=None, min_length=1)
    description: str | None = None
    days: int | None = Field(default=7, ge=0)
    min_instances: int = Field(default=1, ge=1)
    settle_s: float = Field(default=60, ge=0)
    empty_folder: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> IngestOptions:
        if (self.pacs is None) == (self.folder is None):
            raise ValueError("expected either pacs: NAME or folder: PATH")
        return self


@dataclass
class IngestResult:
    """What an ingest did, by series.

    Attributes:
        arrived: came in, or grew.
        waiting: still growing, or not looked at long enough.
        known_count: how many were there already.
        failed: SeriesInstanceUID and reason.
    """

    arrived: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    known_count: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def ingest(
    archive: Archive, into: Path, ledger: Ledger, options: IngestOptions, *, leave: Collection[str] = ()
) -> IngestResult:
    """Take every new series that has stopped growing.

    Args:
        archive: where from.
        into: where to.
        ledger: of the workspace.
        options: which.
        leave: studies whose SEG and RTSTRUCT are not taken, since they may be corrections of our masks.

    Raises:
        PacsError: the archive is away; what was taken stays taken, and the next call goes on from there.
        ConfigError: the archive does not know us, or is none.
    """
    result = IngestResult()
    visit = _ArchiveVisit(archive, into, ledger, options, result)
    for series in list(archive.find(Query(options.modalities or (), options.days))):
        if not _is_requested(series, options) or ledger.is_own_mask(series.series_uid):
            continue
        if series.modality in LABEL_MODALITIES and series.study_uid in leave:
            continue
        try:
            visit.take_if_settled(series)
        except PacsError as error:
            if error.lost:
                raise
            result.failed[series.series_uid] = str(error)
            ledger.record_failure(series.series_uid, str(error))
            say(f"series {series.series_uid}: {error}")
    _remove_abandoned(into / PARTIAL, {*result.waiting, *result.failed})
    return result


def _remove_abandoned(partial: Path, wanted: set[str]) -> None:
    """Remove what a killed process had fetched of series that the archive no longer offers, or that are whole now."""
    for folder in partial.iterdir() if partial.is_dir() else ():
        with contextlib.suppress(OSError):
            if folder.name not in wanted and time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        partial.rmdir()


def _is_requested(series: RemoteSeries, options: IngestOptions) -> bool:
    if options.modalities and series.modality not in options.modalities:
        return False
    pattern = options.description
    return pattern is None or fnmatch.fnmatchcase(series.description.casefold(), pattern.casefold())


@dataclass(frozen=True)
class _ArchiveVisit:
    """One round through an archive: what it is compared with, and what came of it."""

    archive: Archive
    into: Path
    ledger: Ledger
    options: IngestOptions
    result: IngestResult

    def take_if_settled(self, series: RemoteSeries) -> None:
        """Take a series if it is new, or grew, and has not changed for ``settle_s``.

        Raises:
            PacsError: objects did not come.
        """
        uid, target = series.series_uid, self.into / series.study_uid / series.series_uid
        entry = self.ledger.find_entry(uid)
        # Known by its count alone, which spares a request for most series of every round.
        if entry and entry.taken_count and series.instance_count == entry.taken_count:
            self.result.known_count += 1
            return
        objects = sorted(set(self.archive.list_instances(series)))
        if len(objects) < self.options.min_instances:
            return
        if entry and entry.taken_count and (entry.taken_count == len(objects) or set(objects) <= _list_uids(target)):
            self.result.known_count += 1
            return
        entry = self.ledger.record_seen(uid, series.study_uid, len(objects))
        if time.time() - entry.unchanged_since < self.options.settle_s:
            self.result.waiting.append(uid)
            return
        _fetch_missing(self.archive, series, objects, self.into / PARTIAL / uid, target)
        self.ledger.record_taken(uid, len(_list_uids(target)))
        self.archive.acknowledge(series, objects, self.into)
        self.result.arrived.append(uid)
        say(f"took {series.modality} series {uid}, {len(objects)} objects")


def _fetch_missing(archive: Archive, series: RemoteSeries, uids: list[str], partial: Path, target: Path) -> None:
    """Fetch what is missing beside its place, then put it there: a new series at once, a grown one by file."""
    partial.mkdir(parents=True, exist_ok=True)
    for incomplete in partial.glob(".partial-*"):
        incomplete.unlink()
    present = _list_uids(target) | _list_uids(partial)
    archive.fetch(series, [uid for uid in uids if uid not in present], partial)
    missing = len(set(uids) - _list_uids(target) - _list_uids(partial))
    if missing:
        raise PacsError(f"{archive.name}: {missing} of {len(uids)} objects of {series.series_uid} did not come")
    if target.is_dir():
        for file in sorted(partial.glob("*.dcm")):
            file.replace(target / file.name)
        partial.rmdir()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)


def _list_uids(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.dcm")} if folder.is_dir() else set()
