"""Converts the files of a folder that are no DICOM, beside its DICOM: images, and labels of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voxflow.dicom.result import ConversionResult, flatten_outcomes
from voxflow.images import (
    ConversionOutcome,
    EarlierCases,
    convert_files,
    describe_other_files,
    describe_values,
    find_patient_folders,
    label_series,
    pair_files,
)
from voxflow.volumes import VOLUME_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.dicom.options import ConvertOptions
    from voxflow.dicom.scan import FolderScan
    from voxflow.executor import Executor
    from voxflow.images import ConversionRow, ConvertedCase, ImagePair, PseudonymBook, SourceNamer


@dataclass(frozen=True)
class _JoinedFiles:
    """What became of files that are joined by the ends of their names.

    Attributes:
        rows, cases: for the tables.
        values: that occur in the labels.
        lone_labels: labels without images, which may belong to DICOM series.
        files: that were looked at.
    """

    rows: Sequence[ConversionRow]
    cases: Sequence[ConvertedCase]
    values: frozenset[int]
    lone_labels: Sequence[ImagePair]
    files: frozenset[Path]


_NOTHING = _JoinedFiles((), (), frozenset(), (), frozenset())


def convert_other_files(
    scan: FolderScan,
    folder: Path,
    options: ConvertOptions,
    namer: SourceNamer,
    executor: Executor | None,
    *,
    dicom: ConversionResult,
    pseudonyms: PseudonymBook,
) -> ConversionResult:
    """Add to the result of the folder's DICOM what its other files became, label files of DICOM series among them."""
    has_label_names = len(dicom.labels) > 1
    patients = find_patient_folders(((header.path, header.patient) for header in scan.headers), namer.source)
    earlier = EarlierCases(patients, [case.case for case in dicom.cases], has_label_names)
    joined = _NOTHING
    if options.suffixes:
        joined = _join_files(scan, folder, options, namer, executor, earlier=earlier, pseudonyms=pseudonyms)
        earlier = replace(earlier, case_ids=[*earlier.case_ids, *(case.case for case in joined.cases)])
    others = [file for file in scan.other_files if file not in joined.files]
    files = pair_files(namer.source, others, options, describe=namer.name_file, has_cases=bool(dicom.cases))
    lone_labels = [pair for pair in files.pairs if pair.is_lone_label] if scan.headers else []
    pairs = [pair for pair in files.pairs if pair not in lone_labels]
    if options.cases or len(options.channels or ()) > 1:
        names = ", ".join(options.channels or dicom.channels)
        reason = f"one image, where a case has {names}: join files by the ends of their names (`suffix` in each rule)"
        pairs = [replace(pair, reason=pair.reason or reason) for pair in pairs]
    files = replace(files, pairs=tuple(pairs))
    outcomes = convert_files(files, folder, options, namer, executor, earlier=earlier, pseudonyms=pseudonyms)
    rows, cases = flatten_outcomes(outcomes)
    series = ConversionOutcome(tuple(dicom.rows), tuple(dicom.cases))
    labelled = label_series(
        [*joined.lone_labels, *lone_labels], series, folder, options, namer, has_label_names=has_label_names
    )
    tables = [namer.source / name for name in (options.findings, options.cases) if name]
    other_rows = describe_other_files(scan.other_files, namer, tables, copies=scan.copies)
    label_values = {value for outcome in (*outcomes, labelled) for value in outcome.label_values} | joined.values
    labels = describe_values(label_values, options) if label_values or not dicom.labels else dicom.labels
    if files.findings.names:
        labels = {"findings": list(files.findings.names)}
    return ConversionResult(
        rows=[*dicom.rows, *joined.rows, *rows, *labelled.rows, *other_rows],
        cases=[*labelled.cases, *joined.cases, *cases],
        labels=labels,
        notes={"copies": 0, **dicom.notes, "other_files": sum(row.files for row in other_rows) - len(scan.copies)},
        regions=dicom.regions,
        channels=dicom.channels,
        ignore=options.ignore if options.ignore is not None else dicom.ignore,
    )


def _join_files(
    scan: FolderScan,
    folder: Path,
    options: ConvertOptions,
    namer: SourceNamer,
    executor: Executor | None,
    *,
    earlier: EarlierCases,
    pseudonyms: PseudonymBook,
) -> _JoinedFiles:
    """Make cases of several channels of the files whose names end as the rules say."""
    # Other folders need not wait until the readers of layouts are loaded.
    from voxflow.images import convert_layout, join_by_suffix, split_lone_labels

    volumes = [file for file in scan.other_files if file.name.lower().endswith(VOLUME_SUFFIXES)]
    layout = join_by_suffix(namer.source, volumes, options.suffixes, options.patient_pattern)
    layout, lone_labels = split_lone_labels(layout)
    converted = convert_layout(
        layout, folder, options, namer, executor, overlap="last", pseudonyms=pseudonyms, earlier=earlier
    )
    return _JoinedFiles(converted.rows, converted.cases, converted.values, lone_labels, frozenset(volumes))
