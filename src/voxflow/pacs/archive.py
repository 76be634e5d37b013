"""The protocol of every archive that holds series: a PACS by DICOMweb or DIMSE, or a folder."""

from __future__ import annotations

import contextlib
import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from voxflow.errors import PacsError
from voxflow.pacs.settings import DicomWebSettings
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from voxflow.pacs.settings import DimseSettings

# PS3.5 9.1: at most 64 characters, digits and dots.
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True)
class Query:
    """Which series to find.

    Attributes:
        modalities: Modality (0008,0060); empty: all.
        days: StudyDate (0008,0020) is at most so many days ago; None: any.
    """

    modalities: tuple[str, ...] = ()
    days: int | None = None

    def format_date_range(self, today: datetime.date | None = None) -> str:
        """Format the range of dates as DICOM matches it (PS3.4 C.2.2.2.5), open to the future, since clocks differ.

        Args:
            today: None: by this machine's clock.

        Returns:
            Such as "20240601-"; empty when any date will do.

        Example:
            >>> Query(days=7).format_date_range(datetime.date(2024, 6, 8))
            '20240601-'
        """
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
    """Something that holds series: what is new is found, fetched and acknowledged; masks are stored.

    Every method may raise PacsError; its ``lost`` says that the archive is away, so that going on makes no sense.
    """

    @property
    def name(self) -> str:
        """The archive's name in messages."""

    def find(self, query: Query) -> Iterator[RemoteSeries]:
        """Find the series that a query asks for, each once."""

    def list_instances(self, series: RemoteSeries) -> list[str]:
        """List what a series holds now, by SOPInstanceUID (0008,0018)."""

    def fetch(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Fetch objects of a series, each whole or not at all.

        Args:
            series: as :meth:`find` gave it.
            sop_uids: SOPInstanceUIDs of the objects.
            folder: where ``UID.dcm`` is written.
        """

    def store(self, files: Sequence[Path]) -> None:
        """Send DICOM files to the archive; an object that it holds already is no fault."""

    def acknowledge(self, series: RemoteSeries, sop_uids: Collection[str], folder: Path) -> None:
        """Be told that a series is safe in its place, so that a source may let go of it.

        Args:
            series: as :meth:`find` gave it.
            sop_uids: SOPInstanceUIDs of what was taken.
            folder: the inbox that it lies in.
        """

    def close(self) -> None:
        """Close what connections there are."""


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


def is_uid(value: str) -> bool:
    """Whether a value is nothing but a UID (PS3.5 9.1)."""
    return bool(_UID.fullmatch(value))


def accept_uid(value: str, archive: str, level: str) -> bool:
    """Whether a study or series can be asked for; one whose UID is none is left out in one line, and stops no other."""
    if is_uid(value):
        return True
    say(f"{archive}: a {level} is left out, whose UID is none")
    return False


def check_uid(value: str, archive: str) -> str:
    """Check that a value from an archive is nothing but a UID (PS3.5 9.1): it becomes part of paths and addresses.

    Returns:
        The value.

    Raises:
        PacsError: it is no UID.
    """
    if not is_uid(value):
        raise PacsError(f"{archive}: expected a UID of digits and dots, received {value[:80]!r}")
    return value
