"""Making cases of image files that are no DICOM: volumes (NIfTI, MetaImage, NRRD) with labels, and PNG radiographs.

Voxels and grids pass unchanged; headers' texts do not, since they may hold names. A pair of files that can't be trusted
becomes a row that says why, and never stops the others.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxflow.errors import DataError, InputError
from voxflow.executor import process_map
from voxflow.images.pairs import find_patient
from voxflow.images.pseudonyms import assign_pseudonyms, load_pseudonym_key, number_cases
from voxflow.images.table import ConversionOutcome, ConversionRow, ConvertedCase, describe_labels, format_geometry
from voxflow.progress import track
from voxflow.volumes import Volume, read_radiograph, read_volume, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from voxflow.executor import Executor
    from voxflow.images.options import ImageOptions
    from voxflow.images.pairs import ImageFiles, ImagePair


@dataclass(frozen=True)
class ImageFileJob:
    """One case to make of files, with all that a worker process needs; as ``voxflow.dicom.series.ConversionJob``.

    Attributes:
        pair: the files.
        source: the folder that they lie below.
        case, patient: pseudonyms.
        target: the folder that images/ and labels/ lie in.
        suffix: of the volumes that are written.
        values: the label values that have a name; None: any.
        findings: of a radiograph: 0, 1 or None by name.
        findings_source: a CSV, or the names of the folders.
    """

    pair: ImagePair
    source: Path
    case: str
    patient: str
    target: Path
    suffix: str = ".nii.gz"
    values: tuple[int, ...] | None = None
    findings: Mapping[str, int | None] = field(default_factory=dict)
    findings_source: Literal["csv", "folder"] = "csv"


def convert_files(
    files: ImageFiles, target: Path, options: ImageOptions, executor: Executor | None = None
) -> tuple[list[ConversionOutcome], dict[str, object]]:
    """Check every image and label and write them under their case's name, without their headers' texts.

    Args:
        files: the pairs, of :func:`pair_files`.
        target: the folder to write to.
        options: how strictly to check.
        executor: who makes the cases; None: processes of this machine.

    Returns:
        What became of each pair, in their order, and the content of labels.json.
    """
    jobs = _plan_jobs(files, target, options)
    files.findings.report_unmatched({key for pair in files.pairs for key in files.keys_of(pair)})
    numbered_outcomes = (
        executor.run(convert_pair, jobs, _report_lost, into=target) if executor else _run_jobs(jobs, options.workers)
    )
    with closing(numbered_outcomes):
        outcome_by_number = dict(track(numbered_outcomes, "checking", total=len(jobs)))
    outcomes = [outcome_by_number[number] for number in range(len(jobs))]
    if files.findings.names:
        return outcomes, {"findings": list(files.findings.names)}
    if options.labels:
        return outcomes, dict(describe_labels(options.labels, {n.casefold(): v for n, v in options.labels.items()}))
    label_values = sorted({value for outcome in outcomes for value in outcome.label_values} - {0})
    return outcomes, {"0": "background", **{str(value): f"label_{value}" for value in label_values}}


def _run_jobs(jobs: Sequence[ImageFileJob], workers: int | None) -> Generator[tuple[int, ConversionOutcome]]:
    # Below, starting processes takes longer than the work.
    with process_map(workers if len(jobs) > 64 else 1) as run:
        yield from enumerate(run(convert_pair, jobs))


def convert_pair(job: ImageFileJob) -> ConversionOutcome:
    """Make one case of an image file and its label file.

    Returns:
        Rows for the tables. Where no case can be made, a row with the verdict "quarantined" and a reason.
    """
    row = _describe_quarantined(job)
    try:
        if job.pair.image is None:
            raise DataError("a label without an image of the same name")
        return (_write_radiograph_case if job.pair.is_png else _write_volume_case)(job, row, job.pair.image)
    except InputError as error:
        return ConversionOutcome((replace(row, reason=_describe_error(error)),))


def _describe_quarantined(job: ImageFileJob) -> ConversionRow:
    row = ConversionRow(verdict="quarantined", modality="PNG" if job.pair.is_png else "volume")
    return replace(row, files=(job.pair.image is not None) + (job.pair.label is not None))


def _report_lost(job: ImageFileJob, reason: str) -> ConversionOutcome:
    return ConversionOutcome((replace(_describe_quarantined(job), reason=reason),))


def _write_volume_case(job: ImageFileJob, row: ConversionRow, image: Path) -> ConversionOutcome:
    volume = read_volume(image)
    label = _read_checked_label(job, volume)
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality="",
        image=f"images/{job.case}{job.suffix}",
        label=f"labels/{job.case}{job.suffix}" if label else "",
        label_source="nifti" if label else "",
        source=image.relative_to(job.source).as_posix(),
        **format_geometry(volume.geometry),
    )
    write_volume(job.target / case.image, volume)
    if label:
        write_volume(job.target / case.label, label)
    values = tuple(int(value) for value in np.unique(label.array)) if label else ()
    converted = replace(row, verdict="converted", case=job.case, **format_geometry(volume.geometry))
    return ConversionOutcome((converted,), (case,), values)


def _read_checked_label(job: ImageFileJob, volume: Volume) -> Volume | None:
    """The label with whole, known values on the image's own grid.

    Raises:
        DataError: it has another grid than the image, or values that it should not have.
    """
    if job.pair.label is None:
        return None
    label = read_volume(job.pair.label)
    # A hundredth of a millimetre: NIfTI keeps the affine in single precision.
    if not label.geometry.is_close(volume.geometry, tolerance_mm=1e-2):
        image_texts, label_texts = format_geometry(volume.geometry), format_geometry(label.geometry)
        raise DataError(
            f"image and label lie on different grids: size {image_texts['size']} and {label_texts['size']}, spacing "
            f"{image_texts['spacing_mm']} and {label_texts['spacing_mm']} mm, "
            f"origin {_format_origin(volume)} and {_format_origin(label)}"
        )
    values = np.unique(label.array)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0 or values.max() > 65535:
        raise DataError(f"label values are no whole numbers from 0: {values[:5].tolist()}")
    unknown = sorted({int(value) for value in values} - {0, *job.values}) if job.values else []
    if unknown:
        raise DataError(
            f"label values {unknown} have no name in the option labels, which names {list(job.values or ())}"
        )
    # The narrowest type that holds them all: uint8 in nearly every data set.
    dtype = np.uint8 if values.max() < 256 else np.uint16
    return Volume(label.array.astype(dtype), volume.geometry)


def _write_radiograph_case(job: ImageFileJob, row: ConversionRow, image: Path) -> ConversionOutcome:
    array = read_radiograph(image)
    size = " ".join(map(str, array.shape))
    has_findings = any(value is not None for value in job.findings.values())
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality="",
        image=f"images/{job.case}.png",
        label_source=job.findings_source if has_findings else "",
        source=image.relative_to(job.source).as_posix(),
        size=size,
        findings=job.findings,
    )
    write_radiograph(job.target / case.image, array)
    return ConversionOutcome((replace(row, verdict="converted", case=job.case, size=size),), (case,))


def _plan_jobs(files: ImageFiles, target: Path, options: ImageOptions) -> list[ImageFileJob]:
    known_patients = files.findings.patients
    patients = [
        known_patients.get(files.path_of(pair)) or find_patient(pair, options.patient_pattern) for pair in files.pairs
    ]
    names = assign_pseudonyms(set(patients), load_pseudonym_key(options.pseudonym_key))
    cases = number_cases(patients, names)
    if options.keep_names:
        # A case id becomes file names, so that only such characters stay.
        cases = [re.sub(r"[^A-Za-z0-9.-]+", "_", pair.name) for pair in files.pairs]
    return [
        ImageFileJob(
            pair=pair,
            source=files.source,
            case=case,
            patient=names[patient],
            target=target,
            suffix=options.volume_format,
            values=tuple(sorted(set(options.labels.values()))) if options.labels else None,
            findings=dict(zip(files.findings.names, files.findings_of(pair), strict=True)),
            findings_source="csv" if options.findings else "folder",
        )
        for pair, case, patient in zip(files.pairs, cases, patients, strict=True)
    ]


def _describe_error(error: InputError) -> str:
    """The message alone: paths may hold names of patients."""
    return f"{error.where}: {error.message}" if error.where else error.message


def _format_origin(volume: Volume) -> str:
    return " ".join(f"{mm:.2f}" for mm in volume.geometry.origin)
