"""Turning one DICOM volume or radiograph, with its labels, into files and rows; runs in worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from voxflow.dicom.claims import check_geometry
from voxflow.dicom.headers import PARSE_ERRORS, explain_parse_error
from voxflow.dicom.label_grid import LabelGrid
from voxflow.dicom.label_merge import MergedLabels, merge_labels
from voxflow.dicom.radiograph import read_radiograph_object
from voxflow.dicom.reading import VolumeReading, read_part
from voxflow.errors import DataError, DicomError, InputError, join_names
from voxflow.images import (
    ConversionOutcome,
    ConversionRow,
    ConvertedCase,
    RowOrigin,
    Verdict,
    find_common_path,
    format_geometry,
    merge_masks,
    paint_ignore,
)
from voxflow.layouts import IGNORE
from voxflow.volumes import CHANNEL_SEPARATOR, Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.label_merge import LabelOutcome
    from voxflow.dicom.labels import LabelObject, LabelShare
    from voxflow.dicom.options import ConvertOptions


class LabelTexts(TypedDict):
    """The label columns of a case."""

    label: str
    label_source: str
    label_channels: str
    labelled: str


NO_LABEL: LabelTexts = {"label": "", "label_source": "", "label_channels": "", "labelled": ""}


@dataclass(frozen=True)
class ConversionJob:
    """One case to make, with all that a worker process needs.

    Attributes:
        part: its images.
        case, patient: pseudonyms.
        target: the folder that images/ and labels/ lie in.
        options: how strictly to check, and what to remedy.
        labels: what of each label object belongs to it.
        values: label value by case-folded name.
        labelled: case-folded names of the classes that were labelled, where the user's table says it; None elsewhere.
        findings: of a radiograph.
    """

    part: SeriesPart
    case: str
    patient: str
    target: Path
    options: ConvertOptions
    labels: tuple[LabelShare, ...] = ()
    values: Mapping[str, int] = field(default_factory=dict)
    labelled: frozenset[str] | None = None
    findings: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether nearly all of its time goes into reading and deflating, which leave other threads alone."""
        return (
            self.part.kind == "volume"
            and not self.labels
            and self.part.first.modality != "PT"
            and all(header.pixels for header in self.part.headers)
        )


def convert_part(job: ConversionJob) -> ConversionOutcome:
    """Make one case: write its image and labels, and describe them; one bad series never stops the others.

    Returns:
        Rows for the tables. Where no case can be made, a row with the verdict "quarantined" and a reason.

    Raises:
        OSError: a file can't be written, which is no fault of the series.
    """
    try:
        if job.part.kind == "radiograph":
            picture, spacing = _read_radiograph(job)
        else:
            reading = read_part(job.part, job.options)
    except InputError as error:
        return quarantine_job(job, str(error))
    except PARSE_ERRORS as error:
        return quarantine_job(job, explain_parse_error(error))
    # Of OSError, none is caught: a full disk is no fault of the series.
    try:
        return (
            _write_radiograph_case(job, picture, spacing)
            if job.part.kind == "radiograph"
            else _write_volume_case(job, reading)
        )
    except InputError as error:
        # Its path is that of the output, which has no such file.
        (job.target / f"images/{job.case}{job.options.volume_format}").unlink(missing_ok=True)
        return quarantine_job(job, error.message)
    except MemoryError as error:
        return quarantine_job(job, explain_parse_error(error))


def _read_radiograph(job: ConversionJob) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[float, ...]]:
    options = job.options
    return read_radiograph_object(job.part.first.path, window=options.window, bits=options.radiograph_bits)


def describe_part(part: SeriesPart) -> ConversionRow:
    """Begin the row of a part with what its objects say; the caller completes verdict, reason and case."""
    first = part.first
    return ConversionRow(
        verdict="skipped",
        reason=part.reason,
        modality=first.modality,
        files=len(part.headers),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        origin=RowOrigin(find_common_path(header.path for header in part.headers), first.patient_id),
    )


def quarantine_job(job: ConversionJob, reason: str) -> ConversionOutcome:
    """Describe a case that can't be made: a quarantined row for its image, and a skipped one for each label object."""
    reasons = "; ".join(text for text in (reason, job.part.remark) if text)
    row = replace(describe_part(job.part), verdict="quarantined", reason=reasons)
    because = "its image series was quarantined"
    labels = [replace(describe_label(share.label), verdict="skipped", reason=because) for share in job.labels]
    return ConversionOutcome((row, *labels))


def _write_volume_case(job: ConversionJob, reading: VolumeReading) -> ConversionOutcome:
    volume = reading.volume
    image = f"images/{job.case}{job.options.volume_format}"
    write_volume(job.target / image, volume)
    label, combinations, rows = write_labels(job, LabelGrid(volume.geometry, reading.remedy_plan))
    texts = format_geometry(volume.geometry)
    first = job.part.first
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality=first.modality,
        image=image,
        **label,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        volume=job.part.number,
        instance_uid=min(header.sop_uid for header in job.part.headers),
        units=reading.units,
        remedy=reading.remedy,
        **texts,
    )
    remarks = "; ".join(text for text in (reading.remedy, reading.remark) if text)
    verdict: Verdict = "remedied" if reading.remedy else "converted"
    row = replace(describe_part(job.part), verdict=verdict, reason=remarks, case=job.case, units=reading.units, **texts)
    return ConversionOutcome((row, *rows), (case,), combinations=combinations)


def _list_labelled(job: ConversionJob, merged: MergedLabels, classes: set[int]) -> set[int]:
    """The values of the classes that were labelled; refused where the label holds others than the user's table says."""
    names = job.labelled
    if names is None:
        return merged.labelled if job.options.absent_labels == "unlabelled" else classes
    unknown = sorted(names - (job.values.keys() - {IGNORE}))
    if unknown:
        known = sorted(job.values.keys() - {IGNORE})
        raise DataError(f"labelled names {join_names(unknown)}; the classes are {join_names(known)}")
    stated = {job.values[name] for name in names}
    present = {int(value) for value in np.unique(merged.array)} | {
        v for v, mask in merged.channels.items() if mask.any()
    }
    others = sorted(name for name, value in job.values.items() if value in present - stated and name != IGNORE)
    if others:
        raise DataError(f"its label holds {join_names(others)}, which `labelled` in the table does not name")
    return stated


def write_labels(
    job: ConversionJob, grid: LabelGrid
) -> tuple[LabelTexts, Mapping[int, tuple[int, ...]], list[ConversionRow]]:
    """Write the label volume of a case, and its channels where asked.

    Args:
        job: the image that labels belong to.
        grid: of that image.

    Returns:
        Their columns; the classes that values above the labels' stand for; and a row for each label object.
    """
    texts = NO_LABEL.copy()
    if not job.labels:
        return texts, {}, []
    merged = merge_labels(job.labels, grid, job.values, job.options)
    rows = [replace(row, case=job.case) for outcome in merged.outcomes for row in _describe_outcome(outcome, grid)]
    usable_labels = [outcome.label for outcome in merged.outcomes if outcome.is_usable]
    if not usable_labels:
        return texts, {}, rows
    texts["label"] = f"labels/{job.case}{job.options.volume_format}"
    texts["label_source"] = "+".join(sorted({label.kind for label in usable_labels}))
    classes = {value for name, value in job.values.items() if name != IGNORE}
    labelled = _list_labelled(job, merged, classes)
    if labelled != classes:
        # Values; the conversion, which knows all cases, puts the names in their place.
        texts["labelled"] = CHANNEL_SEPARATOR.join(map(str, sorted(labelled)))
    if job.options.overlap == "regions":
        label = merge_masks(sorted(merged.channels.items()), grid.geometry, max(job.values.values()))
        ignore = job.values.get(IGNORE)
        unlabelled = None if ignore is None else merged.array == ignore
        write_volume(job.target / texts["label"], paint_ignore(label.volume, unlabelled, ignore))
        return texts, label.combinations, rows
    write_volume(job.target / texts["label"], Volume(merged.array, grid.geometry))
    suffix = job.options.volume_format
    channels = {f"channels/{job.case}/{value}{suffix}": mask for value, mask in merged.channels.items()}
    for path, mask in channels.items():
        write_volume(job.target / path, Volume(mask.view(np.uint8), grid.geometry))
    texts["label_channels"] = CHANNEL_SEPARATOR.join(channels)
    return texts, {}, rows


def _describe_outcome(outcome: LabelOutcome, grid: LabelGrid) -> Iterator[ConversionRow]:
    """The rows of a label object that belongs to a converted image: for what is in its label, and for what is not."""
    row = describe_label(outcome.label)
    if outcome.is_usable:
        remedy = outcome.remedy or ("moved with its image" if grid.plan else "")
        reason = "; ".join(text for text in (remedy, outcome.remark) if text)
        yield replace(row, verdict="remedied" if remedy else "converted", reason=reason)
    if outcome.problem:
        yield replace(row, verdict="quarantined", reason=outcome.problem)


def describe_label(label: LabelObject) -> ConversionRow:
    """The row of a label object, before it is known what becomes of it."""
    kind = label.kind.upper()
    return ConversionRow(
        verdict="converted",
        modality=kind,
        study_uid=label.study_uid,
        series_uid=label.series_uid,
        origin=RowOrigin(label.path, label.patient_id),
    )


def _write_radiograph_case(job: ConversionJob, array: NDArray[Any], spacing: tuple[float, ...]) -> ConversionOutcome:
    first = job.part.first
    image = f"images/{job.case}.png"
    write_radiograph(job.target / image, array)
    remark = _find_spacing_fault(spacing, array.shape)
    spacing = () if remark else spacing
    size, spacing_mm = " ".join(map(str, array.shape)), " ".join(f"{mm:.6g}" for mm in spacing)
    has_findings = any(value is not None for value in job.findings.values())
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality=first.modality,
        image=image,
        label_source="csv" if has_findings else "",
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        size=size,
        spacing_mm=spacing_mm,
        findings=job.findings,
    )
    row = replace(describe_part(job.part), verdict="converted", reason=remark, case=job.case)
    return ConversionOutcome((replace(row, size=size, spacing_mm=spacing_mm),), (case,))


def _find_spacing_fault(spacing: tuple[float, ...], size: tuple[int, ...]) -> str:
    """Why the spacing of a radiograph, which may lack one, is no such; empty where it is."""
    if not spacing:
        return ""
    if len(spacing) != len(size):
        return f"its spacing is left out: {len(spacing)} numbers instead of {len(size)}"
    try:
        check_geometry(size, spacing, ())
    except DicomError as error:
        return f"its spacing is left out: {error.message}"
    return ""
