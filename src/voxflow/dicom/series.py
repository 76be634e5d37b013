"""Owns turning one DICOM volume or radiograph, with its labels, into files and rows; runs in worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from voxflow.dicom.headers import UNREADABLE
from voxflow.dicom.labels import LabelObject, Merged, merge_labels
from voxflow.dicom.radiograph import read_radiograph_object
from voxflow.dicom.reading import Reading, read_part
from voxflow.errors import InputError
from voxflow.images import Case, Outcome, Row, Verdict, geometry_texts
from voxflow.volumes import CHANNELS, Volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.dicom.group import Part
    from voxflow.dicom.options import ConvertOptions
    from voxflow.geometry import Geometry


class _LabelTexts(TypedDict):
    """The label columns of a case."""

    label: str
    label_source: str
    label_channels: str


@dataclass(frozen=True)
class Job:
    """One case to make.

    Attributes:
        part: its images.
        case, patient: pseudonyms.
        target: the folder that images/ and labels/ lie in.
        options: how strictly to check, and what to remedy.
        labels: the label objects that belong to it.
        values: label value by case-folded name.
        findings: of a radiograph.
    """

    part: Part
    case: str
    patient: str
    target: Path
    options: ConvertOptions
    labels: tuple[LabelObject, ...] = ()
    values: Mapping[str, int] = field(default_factory=dict)
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


def convert_part(job: Job) -> Outcome:
    """Make one case, or say why not; one bad series never stops the others."""
    try:
        if job.part.kind == "radiograph":
            picture, spacing = _read_radiograph(job)
        else:
            reading = read_part(job.part, job.options)
    except InputError as error:
        return quarantined(job, str(error))
    except UNREADABLE as error:
        return quarantined(job, f"unreadable: {type(error).__name__}")
    # Outside of the try: a full disk is no fault of the series.
    return _radiograph(job, picture, spacing) if job.part.kind == "radiograph" else _volume(job, reading)


def _read_radiograph(job: Job) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[float, ...]]:
    options = job.options
    return read_radiograph_object(job.part.first.path, window=options.window, bits=options.radiograph_bits)


def row_of(part: Part) -> Row:
    """A row with what a part says of itself, to be completed."""
    first = part.first
    return Row(
        verdict="skipped",
        reason=part.reason,
        modality=first.modality,
        files=len(part.headers),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
    )


def quarantined(job: Job, reason: str) -> Outcome:
    """The rows of a case that could not be made."""
    row = replace(row_of(job.part), verdict="quarantined", reason=reason)
    labels = [
        replace(_label_row(label), verdict="skipped", reason="its image series was quarantined") for label in job.labels
    ]
    return Outcome((row, *labels))


def _volume(job: Job, reading: Reading) -> Outcome:
    volume = reading.volume
    image = f"images/{job.case}{job.options.volume_format}"
    write_volume(job.target / image, volume)
    label, rows = _label(job, volume.geometry)
    texts = geometry_texts(volume.geometry)
    first = job.part.first
    case = Case(
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
    said = "; ".join(text for text in (reading.remedy, reading.remark) if text)
    verdict: Verdict = "remedied" if reading.remedy else "converted"
    row = replace(row_of(job.part), verdict=verdict, reason=said, case=job.case, units=reading.units, **texts)
    return Outcome((row, *rows), (case,))


def _label(job: Job, geometry: Geometry) -> tuple[_LabelTexts, list[Row]]:
    """Write the label volume, and its channels where asked; gives their columns and a row for each label object."""
    texts: _LabelTexts = {"label": "", "label_source": "", "label_channels": ""}
    if not job.labels:
        return texts, []
    merged = merge_labels(job.labels, geometry, job.values, job.options)
    rows = [replace(_verdict(label, merged), case=job.case) for label in job.labels]
    used = [label for label in job.labels if label.sop_uid not in merged.problems]
    if not used:
        return texts, rows
    texts["label"] = f"labels/{job.case}{job.options.volume_format}"
    texts["label_source"] = "+".join(sorted({label.kind for label in used}))
    write_volume(job.target / texts["label"], Volume(merged.array, geometry))
    channels = {
        f"channels/{job.case}/{value}{job.options.volume_format}": mask for value, mask in merged.channels.items()
    }
    for path, mask in channels.items():
        write_volume(job.target / path, Volume(mask.view(np.uint8), geometry))
    texts["label_channels"] = CHANNELS.join(channels)
    return texts, rows


def _verdict(label: LabelObject, merged: Merged) -> Row:
    """The row of a label object that belongs to a converted image."""
    problem, remedy = merged.problems.get(label.sop_uid), merged.remedies.get(label.sop_uid, "")
    if problem:
        return replace(_label_row(label), verdict="quarantined", reason=problem)
    said = "; ".join(text for text in (remedy, merged.remarks.get(label.sop_uid, "")) if text)
    return replace(_label_row(label), verdict="remedied" if remedy else "converted", reason=said)


def _label_row(label: LabelObject) -> Row:
    return Row(
        verdict="converted",
        modality=label.kind.upper(),
        study_uid=label.study_uid,
        series_uid=label.series_uid,
    )


def _radiograph(job: Job, array: NDArray[Any], spacing: tuple[float, ...]) -> Outcome:
    first = job.part.first
    image = f"images/{job.case}.png"
    write_radiograph(job.target / image, array)
    size, spacing_mm = " ".join(map(str, array.shape)), " ".join(f"{mm:.6g}" for mm in spacing)
    known = any(value is not None for value in job.findings.values())
    case = Case(
        case=job.case,
        patient=job.patient,
        modality=first.modality,
        image=image,
        label_source="csv" if known else "",
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        size=size,
        spacing_mm=spacing_mm,
        findings=job.findings,
    )
    row = replace(row_of(job.part), verdict="converted", case=job.case, size=size, spacing_mm=spacing_mm)
    return Outcome((row,), (case,))
