"""What gets one answer: a series, or for a model of several channels the study that holds them all.

A study waits until one series fits each channel. It is given up with its reason once nothing has come for a while; what
comes later is looked at again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voxflow.dicom import ConvertOptions
    from voxflow.pacs.ledger import Ledger, LedgerEntry

NO_CHANNEL = "fits the rule of no channel"


@dataclass(frozen=True)
class AnswerUnit:
    """The series of one answer.

    Attributes:
        kind: "series" or "study".
        uid: SeriesInstanceUID (0020,000E) or StudyInstanceUID (0020,000D); the folder of the answer is called so.
        study_uid: of its study.
        source: the folder that it lies in.
        entries: the series that the answer is about.
        others: series that came with them and have no part in it.
        missing: why the study is not complete; empty where it is.
    """

    kind: str
    uid: str
    study_uid: str
    source: Path
    entries: tuple[LedgerEntry, ...]
    others: tuple[LedgerEntry, ...] = ()
    missing: str = ""

    @property
    def name(self) -> str:
        """How lines call it."""
        return f"{self.kind} {self.uid}"

    @property
    def instances(self) -> int | dict[str, int]:
        """How many objects the answer is about: of its series, or of each."""
        if self.kind == "series":
            return self.entries[0].taken_count
        return {entry.series_uid: entry.taken_count for entry in self.entries}

    def count_quiet_seconds(self) -> float:
        """Count the seconds since the last object of the study was seen."""
        return time.time() - max(entry.unchanged_since for entry in (*self.entries, *self.others))


def list_series(ledger: Ledger, inbox: Path) -> Iterator[AnswerUnit]:
    """List the series that have no answer yet, each by itself."""
    for entry in ledger.list_waiting():
        source = inbox / entry.study_uid / entry.series_uid
        yield AnswerUnit("series", entry.series_uid, entry.study_uid, source, (entry,))


def list_studies(ledger: Ledger, inbox: Path, options: ConvertOptions) -> Iterator[AnswerUnit]:
    """List the studies with a series that has no answer yet.

    Args:
        ledger: of the workspace.
        inbox: where series are, as STUDY/SERIES/OBJECT.dcm.
        options: of the conversion, with the rules of the channels.

    Raises:
        ConfigError: the channels of a case may lie in several studies.
    """
    if options.channels_of != "study":
        raise ConfigError("the channels of a case must lie in one study", where="convert.channels_of")
    for study_uid in dict.fromkeys(entry.study_uid for entry in ledger.list_waiting()):
        yield _match_study(study_uid, ledger.list_study(study_uid), inbox / study_uid, options)


def _match_study(study_uid: str, entries: list[LedgerEntry], source: Path, options: ConvertOptions) -> AnswerUnit:
    from voxflow.dicom import group_headers, match_channels, read_part_traits, scan_folder

    try:
        headers = scan_folder(source, 1).headers
    except DataError as error:  # the inbox was emptied by hand
        return AnswerUnit("study", study_uid, study_uid, source, tuple(entries), missing=error.message)
    parts = [part for part in group_headers(headers, options) if part.kind == "volume"]
    match = match_channels(
        options.channels or {},
        [read_part_traits(part) for part in parts],
        any_frame_of_reference=options.frame_of_reference == "any",
    )
    if match.reason:
        return AnswerUnit("study", study_uid, study_uid, source, tuple(entries), missing=match.reason)
    members = {parts[place].first.series_uid for place in match.members.values()}
    return AnswerUnit(
        "study",
        study_uid,
        study_uid,
        source,
        entries=tuple(entry for entry in entries if entry.series_uid in members),
        others=tuple(entry for entry in entries if entry.series_uid not in members),
    )
