"""Making cases of image files that are no DICOM: volumes (NIfTI, MetaImage, NRRD) with labels, and radiographs.

Voxels and grids pass unchanged; headers' texts do not, since they may hold names. A pair of files that can't be trusted
becomes a row that says why, and never stops the others.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from voxflow.errors import LIBRARY_ERRORS, DataError, InputError
from voxflow.executor import process_map
from voxflow.images.label_values import LabelValues
from voxflow.images.labels import NO_NAMES, read_known_label
from voxflow.images.names import choose_case_ids, list_data_files, parse_name
from voxflow.images.origins import RowOrigin
from voxflow.images.pairs import find_patient
from voxflow.images.pictures import LOSSY_SUFFIXES, read_picture
from voxflow.images.pseudonyms import number_cases
from voxflow.images.table import ConversionOutcome, ConversionRow, ConvertedCase, describe_labels, format_geometry
from voxflow.progress import track
from voxflow.volumes import describe_forms, read_volume, require_finite, write_radiograph, write_volume

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from voxflow.executor import Executor
    from voxflow.geometry import Geometry
    from voxflow.images.labels import LabelReading
    from voxflow.images.options import ImageOptions
    from voxflow.images.origins import SourceNamer
    from voxflow.images.pairing import ImagePair
    from voxflow.images.pairs import ImageFiles
    from voxflow.images.pseudonyms import PseudonymBook


@dataclass(frozen=True)
class ImageFileJob:
    """One case to make of files, with all that a worker process needs; as ``voxflow.dicom.series.ConversionJob``.

    Attributes:
        pair: the files.
        source_name: what the image, or a label without one, is called.
        label_name: what the label of an image is called.
        case, patient: pseudonyms.
        target: the folder that images/ and labels/ lie in.
        suffix: of the volumes that are written.
        values: that a label may hold.
        findings: of a radiograph: 0, 1 or None by name.
        findings_source: a CSV, or the names of the folders.
    """

    pair: ImagePair
    source_name: str
    label_name: str
    case: str
    patient: str
    target: Path
    suffix: str = ".nii.gz"
    values: LabelValues = field(default_factory=LabelValues)
    findings: Mapping[str, int | None] = field(default_factory=dict)
    findings_source: Literal["csv", "folder"] = "csv"
    subset: str = ""


@dataclass(frozen=True)
class EarlierCases:
    """What was made of the same folder before: cases of DICOM.

    Attributes:
        patients: texts that tell their patients apart, by the folders that hold files of one patient alone.
        case_ids: their ids.
        has_label_names: their labels have names.
    """

    patients: Mapping[Path, str] = field(default_factory=dict)
    case_ids: Collection[str] = ()
    has_label_names: bool = False

    def find_patient(self, file: Path, source: Path) -> str:
        """Whose DICOM alone lies in a file's folder or below; empty where that is nobody's, or several patients'.

        An image and its export to NIfTI, as two patients, could be in the training and in the test part.
        """
        return self.patients.get(file.parent, "") if file.parent != source else ""


def convert_files(
    files: ImageFiles,
    target: Path,
    options: ImageOptions,
    namer: SourceNamer,
    executor: Executor | None = None,
    *,
    earlier: EarlierCases,
    pseudonyms: PseudonymBook,
) -> list[ConversionOutcome]:
    """Check every image and label and write them under their case's name, without their headers' texts.

    Args:
        files: the pairs, of :func:`pair_files`.
        target: the folder to write to.
        options: how strictly to check.
        namer: what files are called in the tables.
        executor: who makes the cases; None: processes of this machine.
        earlier: what was made of the folder's DICOM.
        pseudonyms: of all patients, those of DICOM among them, so that no two patients get one.

    Returns:
        What became of each pair, in their order.
    """
    jobs = _plan_jobs(files, target, options, namer, earlier, pseudonyms=pseudonyms)
    files.findings.report_unmatched({key for pair in files.pairs for key in files.keys_of(pair)})
    numbered_outcomes = (
        executor.run(convert_pair, jobs, _report_lost, into=target) if executor else _run_jobs(jobs, options.workers)
    )
    with closing(numbered_outcomes):
        outcome_by_number = dict(track(numbered_outcomes, "checking", total=len(jobs)))
    return [outcome_by_number[number] for number in range(len(jobs))]


def describe_values(label_values: Iterable[int], options: ImageOptions) -> dict[str, object]:
    """Make the content of labels.json: the values' names by the option labels, else the numbers as names."""
    names = options.class_labels
    if names:
        return dict(describe_labels(names, {name.casefold(): value for name, value in names.items()}))
    return {"0": "background", **{str(value): f"label_{value}" for value in sorted(set(label_values) - {0})}}


def _run_jobs(jobs: Sequence[ImageFileJob], workers: int | None) -> Generator[tuple[int, ConversionOutcome]]:
    # Below, starting processes takes longer than the work.
    with process_map(workers if len(jobs) > 64 else 1) as run:
        yield from enumerate(run(convert_pair, jobs, _report_lost))


def convert_pair(job: ImageFileJob) -> ConversionOutcome:
    """Make one case of an image file and its label file.

    Returns:
        Rows for the tables. Where no case can be made, a row with the verdict "quarantined" or "skipped" and a reason.
    """
    row = _describe_quarantined(job)
    if job.pair.reason or job.pair.image is None:
        return ConversionOutcome((replace(row, verdict="skipped" if job.pair.is_skipped else "quarantined"),))
    try:
        return (_write_radiograph_case if job.pair.is_picture else _write_volume_case)(job, row, job.pair.image)
    except InputError as error:
        return ConversionOutcome((replace(row, reason=_describe_error(error, job)),))
    except LIBRARY_ERRORS as error:
        # Its words may hold what the file does.
        return ConversionOutcome((replace(row, reason=f"unreadable: damaged, or too large ({type(error).__name__})"),))


def _describe_quarantined(job: ImageFileJob) -> ConversionRow:
    path, *other_paths = [file for member in job.pair.files for file in (member, *list_data_files(member))]
    return ConversionRow(
        verdict="quarantined",
        reason=job.pair.reason,
        modality=path.suffix[1:].upper() if job.pair.is_picture else "volume",
        files=1 + len(other_paths),
        source=job.source_name,
        origin=RowOrigin(path, other_paths=tuple(other_paths)),
    )


def _report_lost(job: ImageFileJob, reason: str) -> ConversionOutcome:
    return ConversionOutcome((replace(_describe_quarantined(job), reason=reason),))


def _write_volume_case(job: ImageFileJob, row: ConversionRow, image: Path) -> ConversionOutcome:
    volume = read_volume(image)
    # Each later stage would refuse the image, and with it all others.
    require_finite(volume.array)
    label = _read_label_of_pair(job, volume.geometry)
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality="",
        image=f"images/{job.case}{job.suffix}",
        label=f"labels/{job.case}{job.suffix}" if label else "",
        label_source="nifti" if label else "",
        source=job.source_name,
        subset=job.subset,
        **format_geometry(volume.geometry),
    )
    write_volume(job.target / case.image, volume)
    if label:
        write_volume(job.target / case.label, label.volume)
    remarks = describe_forms(volume.geometry), label.remark if label else ""
    reason = "; ".join(text for text in remarks if text)
    texts = format_geometry(volume.geometry)
    converted = replace(row, verdict="converted", reason=reason, case=job.case, **texts)
    return ConversionOutcome((converted,), (case,), label.values if label else ())


def _read_label_of_pair(job: ImageFileJob, grid: Geometry) -> LabelReading | None:
    if job.pair.label is None:
        return None
    try:
        return read_known_label(job.pair.label, grid, job.values)
    except DataError as error:
        raise DataError(f"{job.label_name}: {error.message}") from error


def _write_radiograph_case(job: ImageFileJob, row: ConversionRow, image: Path) -> ConversionOutcome:
    array = read_picture(image)
    size = " ".join(map(str, array.shape))
    has_findings = any(value is not None for value in job.findings.values())
    case = ConvertedCase(
        case=job.case,
        patient=job.patient,
        modality="",
        image=f"images/{job.case}.png",
        label_source=job.findings_source if has_findings else "",
        source=job.source_name,
        size=size,
        findings=job.findings,
    )
    write_radiograph(job.target / case.image, array)
    is_lossy = image.suffix.lower() in LOSSY_SUFFIXES
    reason = "JPEG: its values were compressed with loss" if is_lossy else ""
    return ConversionOutcome((replace(row, verdict="converted", reason=reason, case=job.case, size=size),), (case,))


def _plan_jobs(
    files: ImageFiles,
    target: Path,
    options: ImageOptions,
    namer: SourceNamer,
    earlier: EarlierCases,
    *,
    pseudonyms: PseudonymBook,
) -> list[ImageFileJob]:
    patients = [
        files.findings.find_patient(*files.keys_of(pair))
        or find_patient(pair, options.patient_pattern, earlier.find_patient(pair.files[0], files.source))
        for pair in files.pairs
    ]
    names = pseudonyms.assign(patients)
    cases = number_cases(patients, names, earlier.case_ids)
    if options.keep_names:
        kept_pairs = [n for n, pair in enumerate(files.pairs) if not pair.reason]
        ids = choose_case_ids([files.pairs[n].name for n in kept_pairs], earlier.case_ids)
        for n, case_id in zip(kept_pairs, ids, strict=True):
            cases[n] = case_id
    is_nameless = earlier.has_label_names and not options.labels
    return [
        ImageFileJob(
            pair=replace(pair, reason=NO_NAMES) if is_nameless and pair.label and not pair.reason else pair,
            source_name=namer.name_file(pair.files[0]),
            label_name=namer.name_file(pair.files[-1]),
            case=case,
            patient=names[patient],
            target=target,
            suffix=options.volume_format,
            values=LabelValues.of(options),
            findings=dict(zip(files.findings.names, files.findings_of(pair), strict=True)),
            findings_source="csv" if options.findings else "folder",
            subset=subset,
        )
        for pair, case, patient, subset in zip(files.pairs, cases, patients, _find_subsets(files), strict=True)
    ]


def _find_subsets(files: ImageFiles) -> list[str]:
    """What each pair is for, where there is a test part with labels, such as imagesTs and labelsTs; else nothing."""
    marks = [parse_name(pair.files[0], files.source).subset for pair in files.pairs]
    if not any(mark == "ts" and pair.label for mark, pair in zip(marks, files.pairs, strict=True)):
        return [""] * len(marks)
    return [{"ts": "testing", "tr": "training", "val": "training"}.get(mark, "") for mark in marks]


def _describe_error(error: InputError, job: ImageFileJob) -> str:
    """The message without the folders of the file, which may hold names of patients."""
    message = f"{error.where}: {error.message}" if error.where else error.message
    for path in job.pair.files:
        message = message.replace(str(path), path.name)
    return message
