"""The conversion of a whole folder of images: its DICOM, then its other image files.

Plan: read all headers; group them into parts (volumes, radiographs, label objects); give every label object to the
volumes that it was drawn on; make each case, in threads, processes or on a cluster; then write the tables. A part that
can't be trusted becomes a row that says why ("quarantined"), and never stops the others.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from voxflow.dicom.claims import refuse_beyond
from voxflow.dicom.group import SeriesPart, group_headers
from voxflow.dicom.headers import PARSE_ERRORS, explain_parse_error
from voxflow.dicom.jobs import (
    choose_channel_ids,
    describe_refused,
    group_jobs,
    plan_channels,
    restrict_labels,
    start_jobs,
)
from voxflow.dicom.labels import LabelObject, LabelShare, assign_label_values, match_label, read_label_object
from voxflow.dicom.mapping import choose_mapping_path, keep_pseudonyms, read_pseudonyms, write_mapping
from voxflow.dicom.other_files import convert_other_files
from voxflow.dicom.references import ImageIndex
from voxflow.dicom.result import NO_DICOM, ConversionResult, flatten_outcomes
from voxflow.dicom.scan import FolderScan, scan_folder
from voxflow.dicom.series import ConversionJob, describe_label, describe_part
from voxflow.errors import DataError, DicomError
from voxflow.executor import process_map
from voxflow.files import atomic_directory, remove_partials
from voxflow.images import (
    ConversionRow,
    ConversionSummary,
    ConvertedCase,
    RadiographFindings,
    SourceNamer,
    describe_labels,
    list_files,
    list_regions,
    load_pseudonym_key,
    name_combinations,
    number_cases,
    read_findings,
    unite_labels,
    write_case_form,
    write_tables,
)
from voxflow.layouts import IGNORE
from voxflow.progress import track
from voxflow.volumes import CHANNEL_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from voxflow.dicom.channel_cases import ChannelPlan
    from voxflow.dicom.channel_job import ChannelJob
    from voxflow.dicom.headers import DicomHeader
    from voxflow.dicom.options import ConvertOptions
    from voxflow.executor import Executor
    from voxflow.images import PseudonymBook

MAX_REASONS = 5
# More label objects than these are read in processes.
FEW_LABELS = 8


def convert_folder(
    source: Path,
    target: Path,
    options: ConvertOptions,
    executor: Executor | None = None,
    *,
    decoded_mb: int | None = None,
) -> ConversionSummary:
    """Convert a folder tree of DICOM, NIfTI, MetaImage, NRRD and pictures to volumes, labels and a case table.

    Args:
        source: any folder tree; files are known by their content.
        target: made whole or not at all: images/, labels/, labels.json, cases.csv, conversion.csv, conversion.json.
        options: what to take and how strictly to check.
        executor: who makes the cases; None: threads and processes of this machine.
        decoded_mb: the most that the pixels of all DICOM images together may have decoded (MiB), for folders of
            strangers; None: each image counts alone.

    Raises:
        ConfigError: the mapping of pseudonyms would lie in the target.
        DataError: the folder is missing, empty, without images, or nothing at all could be converted; or the CSV of
            findings is wrong.
    """
    mapping = choose_mapping_path(target) if options.mapping else None
    scan = FolderScan((), (), ()) if options.layout else scan_folder(source, options.workers, without=target)
    key = load_pseudonym_key(options.pseudonym_key)
    pseudonyms = read_pseudonyms(key, mapping)
    namer = SourceNamer(source, key, [header.path for header in scan.headers])
    with atomic_directory(target) as folder:
        if options.layout or (options.suffixes and not scan.headers):
            files = list_files(source, without=target)
            converted = _convert_layout(files, folder, options, namer, executor, pseudonyms=pseudonyms)
        else:
            dicom = NO_DICOM
            if scan.headers:
                parts = group_headers(scan.headers, options)
                parts = parts if decoded_mb is None else refuse_beyond(parts, decoded_mb)
                dicom = _convert_dicom(scan, source, folder, options, pseudonyms, parts=parts, executor=executor)
            converted = convert_other_files(scan, folder, options, namer, executor, dicom=dicom, pseudonyms=pseudonyms)
        remove_partials(folder)
        rows = namer.name_rows(converted.rows)
        if not converted.cases:
            raise DataError(_explain_failure(rows), path=source)
        if mapping:
            keep_pseudonyms(pseudonyms)
            write_mapping(mapping, rows, converted.cases, source)
        _write_form(folder, converted, options)
        return write_tables(folder, rows, converted.cases, converted.labels, converted.notes)


def _write_form(folder: Path, converted: ConversionResult, options: ConvertOptions) -> None:
    rules = {
        name: rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name, rule in (options.channels or {}).items()
        if name in converted.channels
    }
    conversion = options.list_for_model()
    write_case_form(
        folder, converted.channels, converted.regions, rules, ignore=converted.ignore, conversion=conversion
    )


def _convert_layout(
    files: Sequence[Path],
    folder: Path,
    options: ConvertOptions,
    namer: SourceNamer,
    executor: Executor | None,
    *,
    pseudonyms: PseudonymBook,
) -> ConversionResult:
    """Convert a folder of a known layout, such as nnU-Net's, or one whose channels the ends of names tell."""
    # A folder of DICOM need not wait until the readers of layouts are loaded.
    from voxflow.images import convert_layout, join_by_suffix
    from voxflow.layouts import recognise_layout

    if options.layout:
        layout = recognise_layout(namer.source, files, options.layout)
    else:
        layout = join_by_suffix(namer.source, files, options.suffixes, options.patient_pattern)
    if layout is None:
        raise DataError("its layout is not known", path=namer.source)
    if options.overlap not in ("last", "first", "regions"):
        raise DataError(f"overlap {options.overlap!r} is for DICOM; with a layout: last, first or regions")
    if options.channels:
        layout = layout.select_channels(options.channels)
    converted = convert_layout(layout, folder, options, namer, executor, overlap=options.overlap, pseudonyms=pseudonyms)
    return ConversionResult(
        rows=converted.rows,
        cases=converted.cases,
        labels=converted.labels,
        notes={"copies": 0, "other_files": 0},
        regions=converted.regions,
        channels=layout.channels if len(layout.channels) > 1 else (),
        ignore=converted.ignore,
    )


def _convert_dicom(
    scan: FolderScan,
    source: Path,
    folder: Path,
    options: ConvertOptions,
    pseudonyms: PseudonymBook,
    *,
    parts: Sequence[SeriesPart],
    executor: Executor | None,
) -> ConversionResult:
    findings = read_findings(source / options.findings) if options.findings else RadiographFindings()
    plan = plan_channels(parts, source, options)
    parts = plan.all_parts if plan else parts
    images = [part for part in parts if part.kind in ("volume", "radiograph")]
    labels, label_rows = _read_labels([part for part in parts if part.kind == "label"], options.workers)
    # Converted ones first, so that a label's place among them is that of its image's job.
    index = ImageIndex(
        images + [part for part in parts if part.kind in ("skipped", "unreadable")],
        labelled=plan.list_label_places(options.labels_on) if plan else (),
        has_channels=plan is not None and bool(plan.several),
    )
    matched, unmatched = _match_labels(labels, index, options)
    if plan:
        matched, unnamed = restrict_labels(matched, plan)
        label_rows += unnamed + describe_refused(plan, source / (options.cases or ""))
    shares = [share for n, members in matched.items() if n < len(images) for share in members]
    names = [share.label.names[number] for share in shares for number in share.items]
    values = assign_label_values(names, options.labels)
    names_of_patients = pseudonyms.assign({part.first.patient for part in images})
    jobs = _plan_jobs(images, source, folder, options, findings, names=names_of_patients, plan=plan)
    jobs = [replace(job, labels=tuple(matched.get(n, ())), values=values) for n, job in enumerate(jobs)]
    case_jobs: Sequence[ConversionJob | ChannelJob] = group_jobs(_state_labelled(jobs, plan), plan) if plan else jobs
    with closing(start_jobs(case_jobs, folder, options.workers, executor)) as numbered_outcomes:
        outcomes = dict(track(numbered_outcomes, "converting", total=len(case_jobs)))
    united = unite_labels(folder, list(outcomes.values()), max(values.values(), default=0))
    ignore = values.get(IGNORE)
    values = {name: value for name, value in values.items() if name != IGNORE}
    rows, cases = flatten_outcomes([outcomes[n] for n in range(len(case_jobs))])
    rows += label_rows + unmatched + [describe_part(part) for part in parts if part.kind == "skipped"]
    rows += [replace(describe_part(part), verdict="quarantined") for part in parts if part.kind == "unreadable"]
    label_description: dict[str, object] = {"findings": list(findings.names)} if findings.names else {}
    label_description = label_description or dict(describe_labels(names, values))
    cases = [_name_labelled(case, label_description) for case in cases]
    combinations, regions = _name_united(united, label_description, values)
    label_description |= combinations
    notes = {"copies": len(scan.copies), "findings_without_image": _count_unmatched(findings, images, source)}
    channels = plan.several if plan else ()
    return ConversionResult(rows, cases, label_description, notes, regions, channels, ignore)


def _state_labelled(jobs: Sequence[ConversionJob], plan: ChannelPlan) -> list[ConversionJob]:
    """Put down with each job which classes were labelled in its case; the plan's parts come first among the jobs."""
    stated = [case.labelled for case in plan.cases for _ in case.parts]
    return [replace(job, labelled=stated[n]) if n < len(stated) else job for n, job in enumerate(jobs)]


def _count_unmatched(findings: RadiographFindings, images: Sequence[SeriesPart], source: Path) -> int:
    """How many rows of the CSV of findings name no image; a line says which."""
    headers = [header for part in images for header in part.headers]
    counts = Counter(header.path.name for header in headers)
    return findings.report_unmatched({key for header in headers for key in _list_keys(header, source, counts)})


def _name_united(
    united: Mapping[tuple[int, ...], int], names: Mapping[str, object], values: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, list[int]]]:
    """The names of the values that stand for several classes, and the values of each class."""
    if not united:
        return {}, {}
    names_by_value = {value: str(names[str(value)]) for value in sorted(set(values.values()))}
    combinations = {str(value): name for value, name in name_combinations(united, names_by_value).items()}
    return combinations, list_regions({name: (value,) for value, name in names_by_value.items()}, united)


def _name_labelled(case: ConvertedCase, names: Mapping[str, object]) -> ConvertedCase:
    """Put the names of the classes that were labelled in the place of their values."""
    values = case.labelled.split(CHANNEL_SEPARATOR) if case.labelled else []
    return replace(case, labelled=CHANNEL_SEPARATOR.join(str(names[value]) for value in values)) if values else case


def _plan_jobs(
    images: Sequence[SeriesPart],
    source: Path,
    folder: Path,
    options: ConvertOptions,
    findings: RadiographFindings,
    *,
    names: dict[str, str],
    plan: ChannelPlan | None,
) -> list[ConversionJob]:
    counts = Counter(part.first.path.name for part in images)
    if plan:
        cases = choose_channel_ids(plan, options, names)
    else:
        cases = number_cases((part.first.patient for part in images), names)
    return [
        ConversionJob(
            part=part,
            case=case,
            patient=names[part.first.patient],
            target=folder,
            options=options,
            findings=dict(zip(findings.names, findings.look_up(*_list_keys(part.first, source, counts)), strict=True)),
        )
        for part, case in zip(images, cases, strict=True)
    ]


def _list_keys(header: DicomHeader, source: Path, counts: Mapping[str, int]) -> list[str]:
    """What a CSV of findings may name an image by; hospitals call the files of every study alike (IM0001)."""
    names = [header.path.name] if counts[header.path.name] == 1 else []
    return [header.sop_uid, header.path.relative_to(source).as_posix(), *names]


def _read_labels(parts: Sequence[SeriesPart], workers: int | None) -> tuple[list[LabelObject], list[ConversionRow]]:
    """The label objects that can be read, and a row for each other one."""
    # pydicom takes about half a millisecond for the references of a frame.
    with process_map(workers if len(parts) > FEW_LABELS else 1) as run:
        results = list(run(_read_label, parts, _quarantine_label))
    labels = [result for result in results if isinstance(result, LabelObject)]
    return labels, [result for result in results if isinstance(result, ConversionRow)]


def _read_label(part: SeriesPart) -> LabelObject | ConversionRow:
    try:
        return read_label_object(part)
    except DicomError as error:
        return _quarantine_label(part, str(error))
    except PARSE_ERRORS as error:
        return _quarantine_label(part, explain_parse_error(error))


def _quarantine_label(part: SeriesPart, reason: str) -> ConversionRow:
    return replace(describe_part(part), verdict="quarantined", reason=reason)


def _match_labels(
    labels: Sequence[LabelObject], images: ImageIndex, options: ConvertOptions
) -> tuple[dict[int, list[LabelShare]], list[ConversionRow]]:
    """What belongs to each converted volume, by its place; and a row for what belongs to none, or to one left out."""
    matched: dict[int, list[LabelShare]] = {}
    rows = []
    configured = None if options.labels is None else assign_label_values((), options.labels)
    for label in labels:
        row = replace(describe_label(label), verdict="skipped")
        chosen = [n for n, name in label.names.items() if configured is None or name.casefold() in configured]
        if not chosen:
            rows.append(
                replace(row, reason=f"holds none of the labels asked for: {', '.join(sorted(configured or ()))}")
            )
            continue
        shares, problems = match_label(label, images, chosen)
        for n, share in shares.items():
            part = images.parts[n]
            if part.kind == "volume":
                matched.setdefault(n, []).append(share)
            else:
                reason = (
                    f"its image is left out: {part.reason}" if part.reason else "labels of radiographs are not read"
                )
                rows.append(replace(row, reason=reason))
        if problems:
            rows.append(replace(row, verdict="quarantined", reason=label.describe_numbers(problems, chosen)))
    return matched, rows


def _explain_failure(rows: Sequence[ConversionRow]) -> str:
    if not any(row.modality for row in rows):
        file_count = sum(row.files for row in rows)
        return f"{file_count} file(s), and none of them is DICOM, NIfTI, MetaImage, NRRD or PNG (or another picture)"
    reasons = list(dict.fromkeys(row.reason for row in rows if row.reason))
    first_reasons = "; ".join(reasons[:MAX_REASONS])
    more = f"; and {len(reasons) - MAX_REASONS} more reasons" if len(reasons) > MAX_REASONS else ""
    return f"none of {len(rows)} series could be converted: {first_reasons}{more}"
