"""Gives label files (NIfTI, MetaImage, NRRD) to the DICOM series that their names or folders say they were drawn on.

A label file has no reference to its image, so that only names can tell: it belongs to the one series whose files lie
in a folder of the label's name (``images/case1/*.dcm`` and ``labels/case1.nii.gz``), or in the label's own folder.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.errors import InputError, join_names
from voxflow.executor import thread_map
from voxflow.images.label_values import LabelValues
from voxflow.images.labels import NO_NAMES, read_known_label
from voxflow.images.names import IMAGE_FOLDERS, LABEL_FOLDERS, parse_name
from voxflow.images.origins import RowOrigin
from voxflow.images.pairing import NO_IMAGE
from voxflow.images.table import ConversionOutcome, ConversionRow
from voxflow.naming import fold_name
from voxflow.volumes import CHANNEL_SEPARATOR, read_geometry, write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.images.names import FileName
    from voxflow.images.options import ImageOptions
    from voxflow.images.origins import SourceNamer
    from voxflow.images.pairing import ImagePair
    from voxflow.images.table import ConvertedCase

VOLUME_MODALITIES = ("CT", "MR", "PT")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
FIX = (
    "name the label like the folder that holds the files of its one DICOM series, or like the series' "
    "SeriesInstanceUID, or give its image as NIfTI"
)


@dataclass(frozen=True)
class _Series:
    """A row of a DICOM volume, and the folders that its files lie in."""

    row: ConversionRow
    folders: tuple[str, ...]


@dataclass(frozen=True)
class _LabelJob:
    """The case that a label file belongs to, and the row that tells where the file lies and what became of it."""

    case: ConvertedCase
    row: ConversionRow
    target: Path
    suffix: str
    values: LabelValues


def label_series(
    pairs: Sequence[ImagePair],
    outcome: ConversionOutcome,
    target: Path,
    options: ImageOptions,
    namer: SourceNamer,
    *,
    has_label_names: bool,
) -> ConversionOutcome:
    """Write label files as the labels of the cases that were made of DICOM series.

    Args:
        pairs: label files without an image file.
        outcome: rows and cases of the DICOM series.
        target: the folder that images/ and labels/ lie in.
        options: the names of the values, and the format to write.
        namer: what files are called.
        has_label_names: other labels here have names, which numbers without ``options.labels`` could contradict.

    Returns:
        The cases, those that have a label now among them; a row for each label file; and the labels' values.
    """
    rows, labels_by_case = _match_labels(pairs, outcome.rows, namer)
    case_by_id = {case.case: case for case in outcome.cases}
    values = LabelValues.of(options)
    jobs = []
    for case_id, label_rows in labels_by_case.items():
        reason = _find_conflict(case_by_id[case_id], label_rows)
        reason = reason or (NO_NAMES if has_label_names and not options.labels else "")
        if reason:
            rows += [replace(row, reason=reason) for row in label_rows]
        else:
            jobs.append(_LabelJob(case_by_id[case_id], label_rows[0], target, options.volume_format, values))
    with thread_map(options.workers) as run:
        outcomes = list(run(_label_case, jobs))
    case_by_id |= {case.case: case for labelled in outcomes for case in labelled.cases}
    rows += [row for labelled in outcomes for row in labelled.rows]
    label_values = {value for labelled in outcomes for value in labelled.label_values}
    return ConversionOutcome(tuple(rows), tuple(case_by_id.values()), tuple(sorted(label_values)))


def _match_labels(
    pairs: Sequence[ImagePair], dicom_rows: Sequence[ConversionRow], namer: SourceNamer
) -> tuple[list[ConversionRow], dict[str, list[ConversionRow]]]:
    """Rows of label files that belong to no case, and those of the others by the case."""
    series = [
        _Series(row, _split_folders(row, namer.source))
        for row in dicom_rows
        if row.modality in VOLUME_MODALITIES and row.verdict != "skipped" and row.origin
    ]
    rows: list[ConversionRow] = []
    rows_by_case: dict[str, list[ConversionRow]] = defaultdict(list)
    for pair in pairs:
        path = pair.files[0]
        row = ConversionRow("quarantined", modality="volume", source=namer.name_file(path), origin=RowOrigin(path))
        matches = _find_series(parse_name(path, namer.source), series)
        cases = {match.row.case for match in matches}
        if len(cases) == 1 and "" not in cases:
            rows_by_case[matches[0].row.case].append(replace(row, case=matches[0].row.case))
        elif len(matches) > 1:
            rows.append(replace(row, reason=f"it may be the label of {len(matches)} DICOM series; {FIX}"))
        elif not matches:
            rows.append(replace(row, reason=f"{NO_IMAGE}, in DICOM or in a file; {FIX}"))
        else:
            rows.append(replace(row, verdict="skipped", reason="its image series was quarantined"))
    return rows, rows_by_case


def _find_conflict(case: ConvertedCase, rows: Sequence[ConversionRow]) -> str:
    if case.label:
        return "its image has a label object (SEG, RTSTRUCT) already; keep one of both"
    names = join_names([row.source for row in rows])
    return f"{len(rows)} files are the label of one DICOM series: {names}; keep one" if len(rows) > 1 else ""


def _label_case(job: _LabelJob) -> ConversionOutcome:
    path = job.row.origin.path if job.row.origin else job.target
    try:
        # It was drawn on one of the channels; where it lies on the grid of none, the first one's says how it differs.
        grids = [read_geometry(job.target / image) for image in job.case.image.split(CHANNEL_SEPARATOR)]
        received = read_geometry(path) if len(grids) > 1 else grids[0]
        grid = next((grid for grid in grids if received.find_axes(grid)), grids[0])
        label = read_known_label(path, grid, job.values)
    except InputError as error:
        return ConversionOutcome((replace(job.row, reason=error.message.replace(str(path), job.row.source)),))
    case = replace(job.case, label=f"labels/{job.case.case}{job.suffix}", label_source="nifti")
    write_volume(job.target / case.label, label.volume)
    reason = "; ".join(text for text in ("the label of a DICOM series, by name", label.remark) if text)
    return ConversionOutcome((replace(job.row, verdict="converted", reason=reason),), (case,), label.values)


def _find_series(label: FileName, series: Sequence[_Series]) -> list[_Series]:
    """The series that a label may belong to, by the strictest rule that finds any."""
    key = tuple(fold_name(label.key).split("/")) if label.key else ()
    folder = tuple(fold_name(label.folder).split("/")) if label.folder and not label.folder_role else ()
    rules = (
        lambda item: bool(key) and item.folders == key,
        lambda item: key[-1:] == (item.row.series_uid,),
        lambda item: bool(key) and _holds(item.folders, key),
        lambda item: bool(folder) and item.folders[: len(folder)] == folder,
    )
    matches = ([item for item in series if rule(item)] for rule in rules)
    return next((items for items in matches if items), [])


def _holds(folders: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """Whether all parts of a name follow each other in a path."""
    return any(folders[n : n + len(key)] == key for n in range(len(folders) - len(key) + 1))


def _split_folders(row: ConversionRow, source: Path) -> tuple[str, ...]:
    """The folders below the source that say which series it is; of a single file, its name is the last."""
    parts = row.origin.path.relative_to(source).parts if row.origin else ()
    folders = (part for part in parts if part.lower() not in IMAGE_FOLDERS + LABEL_FOLDERS)
    return tuple(fold_name(_strip_dicom_suffix(folder)) for folder in folders)


def _strip_dicom_suffix(name: str) -> str:
    return next((name[: -len(suffix)] for suffix in DICOM_SUFFIXES if name.lower().endswith(suffix)), name)
