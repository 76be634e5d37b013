"""Turns the series of one case of several channels, with its labels, into files and rows; runs in worker processes.

Each channel is written on its own grid. The label lies on the grid of the channel that it was drawn on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.dicom.headers import PARSE_ERRORS, explain_parse_error
from voxflow.dicom.label_grid import LabelGrid
from voxflow.dicom.reading import read_part
from voxflow.dicom.series import NO_LABEL, ConversionJob, describe_label, describe_part, quarantine_job, write_labels
from voxflow.errors import InputError, join_names
from voxflow.images import ConversionOutcome, ConversionRow, ConvertedCase, format_geometry
from voxflow.volumes import CHANNEL_SEPARATOR, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.dicom.labels import LabelShare
    from voxflow.dicom.series import LabelTexts


@dataclass(frozen=True)
class ChannelJob:
    """One case of several channels.

    Attributes:
        names: of the channels.
        channels: what to make of each of them, all of one case.
        remark: what the user should know of the case.
    """

    names: tuple[str, ...]
    channels: tuple[ConversionJob, ...]
    remark: str = ""

    @property
    def is_plain(self) -> bool:
        """As :attr:`ConversionJob.is_plain`."""
        return all(channel.is_plain for channel in self.channels)

    @property
    def images(self) -> list[str]:
        """The files of the channels, below the target."""
        first = self.channels[0]
        return [f"images/{first.case}_{n:04d}{first.options.volume_format}" for n in range(len(self.channels))]


@dataclass(frozen=True)
class _WrittenChannel:
    """A channel whose image is written; of its voxels nothing stays in memory."""

    name: str
    job: ConversionJob
    grid: LabelGrid
    units: str
    remark: str
    remedy: str


def convert_channels(job: ChannelJob) -> ConversionOutcome:
    """Make one case of several channels; where one of them is damaged there is no case, and each row says why.

    Raises:
        OSError: a file can't be written, which is no fault of the series.
    """
    written: list[_WrittenChannel] = []
    reasons: dict[int, str] = {}
    for n, channel in enumerate(job.channels):
        try:
            written.append(_write_channel(job, n))
        except InputError as error:
            reasons[n] = error.message if error.path == channel.target / job.images[n] else str(error)
        except MemoryError as error:
            reasons[n] = explain_parse_error(error)
    if reasons:
        return _quarantine(job, reasons)
    try:
        return _describe_case(job, written)
    except InputError as error:
        return quarantine_channels(job, error.message)
    except MemoryError as error:
        return quarantine_channels(job, explain_parse_error(error))


def quarantine_channels(job: ChannelJob, reason: str) -> ConversionOutcome:
    """Describe a case that can't be made, and remove what is written of it."""
    return _quarantine(job, dict.fromkeys(range(len(job.channels)), reason))


def _quarantine(job: ChannelJob, reasons: Mapping[int, str]) -> ConversionOutcome:
    first = job.channels[0]
    for path in (*job.images, f"labels/{first.case}{first.options.volume_format}"):
        (first.target / path).unlink(missing_ok=True)
    lacking = join_names([job.names[n] for n in reasons])
    because = f"its case lacks the channel {lacking}, whose series is quarantined"
    outcomes = [quarantine_job(channel, reasons.get(n, because)) for n, channel in enumerate(job.channels)]
    # A label object that several channels share has one row.
    return ConversionOutcome(tuple(dict.fromkeys(row for outcome in outcomes for row in outcome.rows)))


def _write_channel(job: ChannelJob, number: int) -> _WrittenChannel:
    channel = job.channels[number]
    try:
        reading = read_part(channel.part, channel.options)
    except InputError:
        raise
    except PARSE_ERRORS as error:
        raise InputError(explain_parse_error(error)) from error
    # Outside of the block: a full disk is no fault of the series.
    write_volume(channel.target / job.images[number], reading.volume)
    grid = LabelGrid(reading.volume.geometry, reading.remedy_plan)
    return _WrittenChannel(job.names[number], channel, grid, reading.units, reading.remark, reading.remedy)


def _describe_case(job: ChannelJob, written: Sequence[_WrittenChannel]) -> ConversionOutcome:
    """Write the label of a case whose images are written, and describe both."""
    first, firsts = job.channels[0], [channel.part.first for channel in job.channels]
    texts, combinations, label_rows = _write_label(job, written)
    units = [channel.units for channel in written]
    case = ConvertedCase(
        case=first.case,
        patient=first.patient,
        modality=CHANNEL_SEPARATOR.join(dict.fromkeys(header.modality for header in firsts)),
        image=CHANNEL_SEPARATOR.join(job.images),
        **texts,
        study_uid=CHANNEL_SEPARATOR.join(dict.fromkeys(header.study_uid for header in firsts)),
        series_uid=CHANNEL_SEPARATOR.join(header.series_uid for header in firsts),
        volume=CHANNEL_SEPARATOR.join(str(channel.part.number) for channel in job.channels),
        instance_uid=CHANNEL_SEPARATOR.join(min(h.sop_uid for h in channel.part.headers) for channel in job.channels),
        units=units[0] if len(set(units)) == 1 else CHANNEL_SEPARATOR.join(units),
        remedy="; ".join(f"{channel.name}: {channel.remedy}" for channel in written if channel.remedy),
        **format_geometry(written[0].grid.geometry),
    )
    rows = [_describe_channel(channel, job.remark) for channel in written]
    return ConversionOutcome((*rows, *label_rows), (case,), combinations=combinations)


def _describe_channel(channel: _WrittenChannel, case_remark: str) -> ConversionRow:
    texts = (f"channel {channel.name}", channel.remedy, channel.remark, case_remark)
    return replace(
        describe_part(channel.job.part),
        verdict="remedied" if channel.remedy else "converted",
        reason="; ".join(text for text in texts if text),
        case=channel.job.case,
        units=channel.units,
        **format_geometry(channel.grid.geometry),
    )


def _write_label(
    job: ChannelJob, written: Sequence[_WrittenChannel]
) -> tuple[LabelTexts, Mapping[int, tuple[int, ...]], list[ConversionRow]]:
    """Write the case's label on the grid of the channel that it was drawn on; as :func:`write_labels`."""
    chosen = job.channels[0].options.labels_on
    labelled = [channel for channel in written if channel.job.labels]
    usable = [channel for channel in labelled if chosen in (None, channel.name)]
    used = {share.label.path for channel in usable for share in channel.job.labels}
    rows = [
        replace(row, verdict="skipped", reason=f"drawn on the channel {channel.name}, and `labels_on` says {chosen}")
        for channel in labelled
        if channel not in usable
        for row in (describe_label(share.label) for share in channel.job.labels if share.label.path not in used)
    ]
    if not usable:
        return NO_LABEL, {}, rows
    first, *others = usable
    if any(channel.grid.plan or not channel.grid.geometry.is_close(first.grid.geometry) for channel in others):
        names = join_names([channel.name for channel in usable])
        reason = (
            f"the labels of its case are drawn on the channels {names}, whose grids differ: `labels_on` names the "
            "channel whose labels count"
        )
        labels = {share.label.path: share.label for channel in usable for share in channel.job.labels}
        refused = [replace(describe_label(label), verdict="quarantined", reason=reason) for label in labels.values()]
        return NO_LABEL, {}, [*rows, *refused]
    shares = _join_shares([share for channel in usable for share in channel.job.labels])
    texts, combinations, label_rows = write_labels(replace(first.job, labels=shares), first.grid)
    return texts, combinations, [*rows, *label_rows]


def _join_shares(shares: Sequence[LabelShare]) -> tuple[LabelShare, ...]:
    """One share a label object: what of it belongs to any of the channels, each frame or contour once."""
    joined: dict[str, LabelShare] = {}
    for share in shares:
        path = str(share.label.path)
        first = joined.setdefault(path, replace(share, items={}))
        items = {n: first.items.get(n, frozenset()) | members for n, members in share.items.items()}
        joined[path] = replace(first, items=dict(sorted({**first.items, **items}.items())))
    return tuple(joined.values())
