"""Makes cases of a folder that has a known layout: several channels, masks of classes, regions, parts.

Files are read by :mod:`voxflow.layouts`; here they become images/, labels/ and rows, as those of plain folders do.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from voxflow.errors import LIBRARY_ERRORS, DataError, InputError, join_names
from voxflow.executor import process_map
from voxflow.images.files import EarlierCases, describe_values
from voxflow.images.label_values import LabelValues
from voxflow.images.labels import NO_NAMES
from voxflow.images.layout_labels import (
    Overlap,
    list_labelled,
    list_regions,
    name_combinations,
    read_layout_label,
    unite_labels,
)
from voxflow.images.names import choose_case_ids
from voxflow.images.origins import RowOrigin
from voxflow.images.pseudonyms import number_cases
from voxflow.images.table import ConversionOutcome, ConversionRow, ConvertedCase, format_geometry
from voxflow.progress import track
from voxflow.volumes import (
    CHANNEL_SEPARATOR,
    align,
    read_channels,
    read_geometry,
    require_finite,
    require_overlap,
    require_place,
    write_volume,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.executor import Executor
    from voxflow.geometry import Geometry
    from voxflow.images.layout_labels import Combination, LayoutLabel
    from voxflow.images.options import ImageOptions
    from voxflow.images.origins import SourceNamer
    from voxflow.images.pseudonyms import PseudonymBook
    from voxflow.layouts import ChannelSource, Layout, LayoutCase
    from voxflow.volumes import Volume


@dataclass(frozen=True)
class LayoutJob:
    """One case to make, with all that a worker process needs.

    Attributes:
        case: its files.
        channels: names of the channels.
        classes: of the layout.
        values: that a label may hold.
        source_name: what its first file is called.
        case_id, patient: pseudonyms.
        target: the folder that images/ and labels/ lie in.
        suffix: of the volumes that are written.
        overlap: which class counts where masks overlap, or "regions".
        absent: what a class means that the case has no mask of; see ``ImageOptions.absent_labels``.
    """

    case: LayoutCase
    channels: tuple[str, ...]
    classes: Mapping[str, tuple[int, ...]]
    values: LabelValues
    source_name: str
    case_id: str
    patient: str
    target: Path
    suffix: str
    overlap: Overlap
    absent: Literal["empty", "unlabelled"]


@dataclass(frozen=True)
class LayoutConversion:
    """What became of all cases.

    Attributes:
        rows, cases: for the tables.
        labels: the content of labels.json.
        regions: the values of each class, where classes overlap; else empty.
        ignore: the value of voxels that nobody labelled; None where there is none.
        values: that occur in the labels.
    """

    rows: list[ConversionRow]
    cases: list[ConvertedCase]
    labels: dict[str, object]
    regions: dict[str, list[int]]
    ignore: int | None = None
    values: frozenset[int] = frozenset()


def convert_layout(
    layout: Layout,
    target: Path,
    options: ImageOptions,
    namer: SourceNamer,
    executor: Executor | None = None,
    *,
    overlap: Overlap,
    pseudonyms: PseudonymBook,
    earlier: EarlierCases | None = None,
) -> LayoutConversion:
    """Make every case of a layout; a case that can't be trusted becomes a row that says why.

    Args:
        layout: of :func:`voxflow.layouts.recognise_layout`.
        target: the folder to write to.
        options: how strictly to check.
        namer: what files are called in the tables.
        executor: who makes the cases; None: processes of this machine.
        overlap: which class counts where masks overlap: the "last" or "first" by name, or "regions" to keep all.
        pseudonyms: of the patients.
        earlier: what was made of the same folder's DICOM.
    """
    earlier = earlier or EarlierCases()
    jobs = _plan_jobs(layout, target, options, namer, pseudonyms, overlap=overlap, earlier=earlier)
    if executor:
        numbered_outcomes = executor.run(convert_layout_case, jobs, _report_lost, into=target)
        with closing(numbered_outcomes):
            by_number = dict(track(numbered_outcomes, "converting", total=len(jobs)))
        outcomes = [by_number[number] for number in range(len(jobs))]
    else:
        with process_map(options.workers if len(jobs) > 1 else 1) as run:
            outcomes = list(track(run(convert_layout_case, jobs, _report_lost), "converting", total=len(jobs)))
    highest = max((value for values in layout.classes.values() for value in values), default=0)
    ignore = jobs[0].values.ignore if jobs else None
    united = unite_labels(target, outcomes, highest)
    rows = [row for outcome in outcomes for row in outcome.rows]
    values = {value for outcome in outcomes for value in outcome.label_values} - {ignore}
    return LayoutConversion(
        rows=[*rows, *_describe_unplaced(layout, namer)],
        cases=[case for outcome in outcomes for case in outcome.cases],
        labels=_name_values(layout, united) if layout.classes else describe_values(values, options),
        regions=list_regions(layout.classes, united) if united or layout.has_regions else {},
        ignore=ignore,
        values=frozenset(values),
    )


def convert_layout_case(job: LayoutJob) -> ConversionOutcome:
    """Write one case's channels and label."""
    row = _describe_quarantined(job)
    if job.case.fault:
        return ConversionOutcome((replace(row, reason=job.case.fault),))
    try:
        return _write_case(job, row)
    except InputError as error:
        message = f"{error.where}: {error.message}" if error.where else error.message
        for path in job.case.files:
            message = message.replace(str(path), path.name)
        return ConversionOutcome((replace(row, reason=message),))
    except LIBRARY_ERRORS as error:
        # Its words may hold what the file does.
        return ConversionOutcome((replace(row, reason=f"unreadable: damaged, or too large ({type(error).__name__})"),))


def _write_case(job: LayoutJob, row: ConversionRow) -> ConversionOutcome:
    images = _read_channels(job)
    labelled = list_labelled(job.case, job.classes, absent=job.absent)
    label = _read_label(job, [image.geometry for image in images], labelled) if job.case.labels else None
    count = len(images)
    numbers = [""] if count == 1 else [f"_{number:04d}" for number in range(count)]
    names = [f"images/{job.case_id}{number}{job.suffix}" for number in numbers]
    for name, image in zip(names, images, strict=True):
        write_volume(job.target / name, image)
    texts = format_geometry(images[0].geometry)
    case = ConvertedCase(
        case=job.case_id,
        patient=job.patient,
        modality="",
        image=CHANNEL_SEPARATOR.join(names),
        label=f"labels/{job.case_id}{job.suffix}" if label else "",
        label_source="nifti" if label else "",
        source=job.source_name,
        subset=job.case.part,
        labelled=CHANNEL_SEPARATOR.join(labelled or ()) if label else "",
        **texts,
    )
    if label:
        write_volume(job.target / case.label, label.volume)
    unlabelled = "no label, though the data set has the case for training" if job.case.part == "training" else ""
    remarks = [_describe_own_grids(job, images), label.remark if label else unlabelled]
    row = replace(row, verdict="converted", reason="; ".join(filter(None, remarks)), case=job.case_id, **texts)
    if label is None:
        return ConversionOutcome((row,), (case,))
    return ConversionOutcome((row,), (case,), label.values, label.combinations)


def _read_channels(job: LayoutJob) -> list[Volume]:
    lacking = [name for name, source in zip(job.channels, job.case.channels, strict=True) if source is None]
    if lacking:
        raise DataError(f"lacks the channel {join_names(lacking)} of {join_names(job.channels)}")
    volumes_by_path: dict[Path, list[Volume]] = {}
    images: list[Volume] = []
    for name, source in zip(job.channels, job.case.channels, strict=True):
        if source is None:
            continue
        try:
            images.append(_read_channel(name, source, volumes_by_path, images[0].geometry if images else None))
        except DataError as error:
            # One file of several: the row names the first.
            is_clear = len(job.case.channels) == 1 or name in error.message
            raise DataError(error.message if is_clear else f"channel {name}: {error.message}") from error
    require_overlap({name: image.geometry for name, image in zip(job.channels, images, strict=True)})
    return images


def _read_channel(
    name: str, source: ChannelSource, volumes_by_path: dict[Path, list[Volume]], first: Geometry | None
) -> Volume:
    """Read one channel, turned to the axes of the first where it has its voxels."""
    volumes = volumes_by_path.setdefault(source.path, []) or read_channels(source.path)
    volumes_by_path[source.path] = volumes
    if source.index is None and len(volumes) != 1:
        raise DataError(f"expected one channel, {name}; the file holds {len(volumes)}", path=source.path)
    if source.index is not None and source.index >= len(volumes):
        raise DataError(f"lacks the channel {name}: the file holds {len(volumes)}", path=source.path)
    image = volumes[source.index or 0]
    require_finite(image.array, source.path)
    if first is None:
        return image
    if image.geometry.find_axes(first) is None:
        require_place(image.geometry, source.path)
        return image
    return align(image, first, source.path)


def _describe_own_grids(job: LayoutJob, images: Sequence[Volume]) -> str:
    first = images[0].geometry
    names = [name for name, image in zip(job.channels, images, strict=True) if image.geometry.find_axes(first) is None]
    verb = "lies on a grid of its own" if len(names) == 1 else "lie on grids of their own"
    return f"{join_names(names)} {verb}; the stage resample brings all channels to one" if names else ""


def _read_label(job: LayoutJob, grids: Sequence[Geometry], labelled: Sequence[str] | None) -> LayoutLabel:
    """Read the label on the grid of whichever channel it lies on."""
    try:
        of_label = read_geometry(job.case.labels[0].path, has_channels=True)
        grid = next((grid for grid in grids if of_label.find_axes(grid) is not None), grids[0])
        sources, classes, values = job.case.labels, job.classes, job.values
        return read_layout_label(sources, grid, classes, values=values, overlap=job.overlap, labelled=labelled)
    except DataError as error:
        raise DataError(f"label: {error.message}") from error


def _plan_jobs(
    layout: Layout,
    target: Path,
    options: ImageOptions,
    namer: SourceNamer,
    pseudonyms: PseudonymBook,
    *,
    overlap: Overlap,
    earlier: EarlierCases,
) -> list[LayoutJob]:
    cases = layout.cases
    if earlier.has_label_names and not options.labels:
        cases = tuple(replace(case, fault=case.fault or NO_NAMES) if case.labels else case for case in cases)
    patients = [_find_patient(case, earlier, namer.source) for case in cases]
    names = pseudonyms.assign(patients)
    # A table of maps has no names of its own, so that those of the option count.
    allowed = frozenset(value for members in layout.classes.values() for value in members)
    values = LabelValues.of(options)
    if layout.classes:
        values = LabelValues(allowed, layout.ignore, threshold=options.label_threshold)
    ids = (
        choose_case_ids([case.name for case in cases], earlier.case_ids)
        if options.keep_names
        else number_cases(patients, names, earlier.case_ids)
    )
    return [
        LayoutJob(
            case=case,
            channels=layout.channels,
            classes=layout.classes or {name: (value,) for name, value in (options.class_labels or {}).items()},
            values=values,
            absent=options.absent_labels,
            source_name=namer.name_file(_list_files(case)[0]),
            case_id=case_id,
            patient=names[patient],
            target=target,
            suffix=options.volume_format,
            overlap=overlap,
        )
        for case, case_id, patient in zip(cases, ids, patients, strict=True)
    ]


def _find_patient(case: LayoutCase, earlier: EarlierCases, source: Path) -> str:
    """Whose case it is: as the data set says, else whose DICOM alone lies in the folder of its files."""
    is_stated = case.patient != case.name
    of_folder = "" if is_stated or not case.files else earlier.find_patient(case.files[0], source)
    return of_folder or f"file {case.patient}"


def _list_files(case: LayoutCase) -> tuple[Path, ...]:
    """The files that a row tells of: those of the case, else the table that lists it."""
    return case.files or ((case.table,) if case.table else ())


def _describe_quarantined(job: LayoutJob) -> ConversionRow:
    path, *other_paths = _list_files(job.case)
    return ConversionRow(
        verdict="quarantined",
        modality="volume",
        files=1 + len(other_paths),
        source=job.source_name,
        origin=RowOrigin(path, other_paths=tuple(other_paths)),
    )


def _report_lost(job: LayoutJob, reason: str) -> ConversionOutcome:
    return ConversionOutcome((replace(_describe_quarantined(job), reason=reason),))


def _describe_unplaced(layout: Layout, namer: SourceNamer) -> list[ConversionRow]:
    return [
        ConversionRow(
            verdict="skipped", reason=reason, modality="volume", source=namer.name_file(path), origin=RowOrigin(path)
        )
        for path, reason in layout.unplaced.items()
    ]


def _name_values(layout: Layout, united: Mapping[Combination, int]) -> dict[str, object]:
    """The content of labels.json: the name of each value; one that only regions have is called after the smallest."""
    names = {0: "background"} | dict(layout.value_names)
    by_size = sorted(layout.classes.items(), key=lambda item: (len(item[1]), item[0]))
    for name, values in by_size:
        for value in values:
            names.setdefault(value, name if len(values) == 1 else f"{name}, value {value}")
    names |= name_combinations(united, {values[0]: name for name, values in layout.classes.items()})
    return {str(value): names[value] for value in sorted(names)}
