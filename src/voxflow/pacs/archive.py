"""Owns the protocol that everything which holds series speaks: a PACS by DICOMweb or DIMSE, or a folder."""

from __future__ import annotations

import contextlib
import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from voxflow.errors import PacsError
from voxflow.pacs.settings import DicomWebSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.pacs.settings import DimseSettings

_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Query:
    """Which series are of interest.

    Attributes:
        modalities: Modality (0008,0060); empty: all.
        days: StudyDate (0008,0020) is at most so many days ago; None: any.
    """

    modalities: tuple[str, ...] = ()
    days: int | None = None

    def date_range(self, today: datetime.date | None = None) -> str:
        """The range as DICOM writes it, open to the future, for clocks that differ; empty when any date will do."""
        if self.days is None:
            return ""
        first = (today or datetime.datetime.now().astimezone().date()) - datetime.timedelta(days=self.days)
        return f"{first:%Y%m%d}-"


@dataclass(frozen=True)
class RemoteSeries:
    """One series that an archive holds.

    Attributes:
        study_uid, series_uid: StudyInstanceUID (0020,000D), SeriesInstanceUID (0020,000E).
        modality: Modality (0008,0060).
        description: SeriesDescription (0008,103E).
        instance_count: how many objects it holds; None: the archive does not say.
    """

    study_uid: str
    series_uid: str
    modality: str = ""
    description: str = ""
    instance_count: int | None = None


class Archive(Protocol):
    """Something that holds series."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        """The series of interest."""

    def list_instances(self, series: RemoteSeries) -> list[str]:
        """SOPInstanceUID (0008,0018) of what a series holds now."""

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Write ``UID.dcm`` into a folder for each object wanted, each whole or not at all."""

    def store(self, files: Sequence[Path]) -> None:
        """Send objects to the archive; one that it holds already is no fault."""

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Told when a series is safe in its place."""

    def close(self) -> None:
        """End what connections there are."""


@contextlib.contextmanager
def open_archive(name: str, settings: DicomWebSettings | DimseSettings) -> Iterator[Archive]:
    """Open the archive behind settings for the block; nothing is asked of it yet.

    Raises:
        MissingDependencyError: the library for its protocol is not installed.
    """
    archive = _create_archive(name, settings)
    try:
        yield archive
    finally:
        archive.close()


def _create_archive(name: str, settings: DicomWebSettings | DimseSettings) -> Archive:
    if isinstance(settings, DicomWebSettings):
        from voxflow.pacs.web import DicomWebArchive

        return DicomWebArchive(name, settings)
    from voxflow.pacs.dimse import DimseArchive

    return DimseArchive(name, settings)


def check_uid(value: str, archive: str) -> str:
    """A UID that an archive gave, known to be nothing but a UID: it becomes part of paths and addresses.

    Raises:
        PacsError: it is none.
    """
    if not _UID.fullmatch(value):
        raise PacsError(f"{archive}: expected a UID of digits and dots, received {value[:80]!r}")
    return value
