"""Finds label objects in an archive and in the inbox, and hands each to the desk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.dicom import LABEL_CLASSES, read_header
from voxflow.errors import PacsError
from voxflow.files import temporary_folder
from voxflow.images import list_files
from voxflow.pacs import DropFolder, Query
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voxflow.corrections.desk import CorrectionDesk
    from voxflow.corrections.results import OwnResult
    from voxflow.pacs import Archive, RemoteSeries

MODALITIES = ("SEG", "RTSTRUCT")


@dataclass
class Intake:
    """What came of one round.

    Attributes:
        failed: reasons by SeriesInstanceUID; these series are tried again.
    """

    failed: dict[str, str] = field(default_factory=dict)


def take_corrections(archive: Archive, desk: CorrectionDesk, inbox: Path, days: int | None) -> Intake:
    """Take in every label object that was not looked at yet, and decide anew about those that were held.

    Of a PACS, which also holds what is nobody's concern here, the studies count that have a mask of ours. Of a folder
    that files are dropped into, everything does.

    Args:
        archive: where people send corrections.
        desk: decides about each.
        inbox: where incoming series are; a correction may have come in with them.
        days: a study of the PACS is at most so many days old; None: of any age.

    Raises:
        PacsError: the archive is away; what was taken stays taken.
        ConfigError: the archive does not know us.
    """
    intake = Intake()
    studies = {result.study_uid for result in desk.results}
    own_objects = {result.facts.sop_uid for result in desk.results} if isinstance(archive, DropFolder) else set()
    desk.reconsider_held()
    for file in _list_inbox_labels(inbox, studies):
        desk.take(file)
    for series in list(archive.find(Query(MODALITIES, days))):
        if not isinstance(archive, DropFolder) and series.study_uid not in studies:
            continue
        try:
            _take_series(archive, series, desk, own_objects)
        except PacsError as error:
            if error.lost:
                raise
            intake.failed[series.series_uid] = str(error)
            say(f"series {series.series_uid}: {error}")
    return intake


def _take_series(archive: Archive, series: RemoteSeries, desk: CorrectionDesk, own_objects: set[str]) -> None:
    seen_uids = desk.table.sop_uids | {uid for result in desk.results for uid in _list_own(archive, result, series)}
    objects = sorted(set(archive.list_instances(series)))
    new = [uid for uid in objects if uid not in seen_uids or uid in own_objects]
    if new:
        with temporary_folder(desk.table.folder) as scratch:
            archive.fetch(series, new, scratch)
            for file in sorted(scratch.glob("*.dcm")):
                desk.take(file)
    archive.acknowledge(series, objects, desk.table.folder)


def _list_own(archive: Archive, result: OwnResult, series: RemoteSeries) -> Iterator[str]:
    """Our own object in a series; one that somebody changed under its own UID shows in a folder alone."""
    if series.series_uid in result.own_series and not isinstance(archive, DropFolder):
        yield result.facts.sop_uid


def _list_inbox_labels(inbox: Path, studies: set[str]) -> Iterator[Path]:
    """The label objects that were taken into the inbox beside the images of answered studies."""
    for study in sorted(studies):
        for series in sorted((inbox / study).glob("*/")):
            files = list_files(series)
            header = read_header(files[0]) if files else None
            if header is not None and header.sop_class in LABEL_CLASSES:
                yield from files
