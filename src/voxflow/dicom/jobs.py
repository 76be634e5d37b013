"""From the parts of a folder to jobs, one a case: which series belong together, and who converts them.

A case is one series, or several channels where the options say so; both kinds of jobs run in the same threads and
processes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from voxflow.dicom.channel_job import ChannelJob, convert_channels, quarantine_channels
from voxflow.dicom.series import ConversionJob, convert_part, describe_label, quarantine_job
from voxflow.executor import process_map, thread_map
from voxflow.images import ConversionOutcome, ConversionRow, RowOrigin, choose_case_ids, number_cases

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from voxflow.dicom.channel_cases import ChannelPlan
    from voxflow.dicom.group import SeriesPart
    from voxflow.dicom.labels import LabelObject, LabelShare
    from voxflow.dicom.options import ConvertOptions
    from voxflow.executor import Executor


def plan_channels(parts: Sequence[SeriesPart], source: Path, options: ConvertOptions) -> ChannelPlan | None:
    """Which series are the channels of which case; None where each is a case of its own."""
    # Series that are cases of their own need not wait until this code is loaded.
    if options.cases:
        from voxflow.dicom.case_table import join_by_table

        return join_by_table(parts, source, options)
    if options.channels:
        from voxflow.dicom.channel_cases import join_channels

        return join_channels(parts, options)
    return None


def restrict_labels(
    matched: dict[int, list[LabelShare]], plan: ChannelPlan
) -> tuple[dict[int, list[LabelShare]], list[ConversionRow]]:
    """Leave out label objects that the user's table does not name for their case; a row for each of them."""
    cases = [case for case in plan.cases for _ in case.parts]
    restricted: dict[int, list[LabelShare]] = {}
    dropped: dict[Path, LabelObject] = {}
    for n, shares in matched.items():
        allowed = cases[n].labels if n < len(cases) else None
        restricted[n] = [share for share in shares if allowed is None or share.label.path in allowed]
        dropped |= {share.label.path: share.label for share in shares if share not in restricted[n]}
    reason = "the table names another label for its case, or none"
    return restricted, [replace(describe_label(label), verdict="skipped", reason=reason) for label in dropped.values()]


def describe_refused(plan: ChannelPlan, table: Path) -> list[ConversionRow]:
    """Describe the rows of the user's table that make no case."""
    return [ConversionRow("quarantined", reason, "table", 0, origin=RowOrigin(table)) for reason in plan.refused]


def group_jobs(jobs: Sequence[ConversionJob], plan: ChannelPlan) -> Sequence[ConversionJob | ChannelJob]:
    """One job a case."""
    if not plan.several:
        return list(jobs)
    channel_jobs, remaining = [], iter(jobs)
    for case in plan.cases:
        channel_jobs.append(ChannelJob(plan.channels, tuple(islice(remaining, len(case.parts))), case.remark))
    return channel_jobs


def start_jobs(
    jobs: Sequence[ConversionJob | ChannelJob], folder: Path, workers: int | None, executor: Executor | None
) -> Generator[tuple[int, ConversionOutcome]]:
    """Begin to convert; each outcome comes with its job's number."""
    if executor:
        return executor.run(_convert_job, jobs, _quarantine_job, into=folder)
    return _run_jobs(jobs, workers)


def _convert_job(job: ConversionJob | ChannelJob) -> ConversionOutcome:
    return convert_channels(job) if isinstance(job, ChannelJob) else convert_part(job)


def _quarantine_job(job: ConversionJob | ChannelJob, reason: str) -> ConversionOutcome:
    return quarantine_channels(job, reason) if isinstance(job, ChannelJob) else quarantine_job(job, reason)


def _run_jobs(
    jobs: Sequence[ConversionJob | ChannelJob], workers: int | None
) -> Generator[tuple[int, ConversionOutcome]]:
    """Convert, plain volumes in threads and then what keeps Python busy in processes; each with its job's number."""
    plain = [n for n, job in enumerate(jobs) if job.is_plain]
    heavy = [n for n, job in enumerate(jobs) if not job.is_plain]
    with thread_map(workers) as run:
        yield from zip(plain, run(_convert_job, [jobs[n] for n in plain]), strict=True)
    with process_map(workers if len(heavy) > 1 else 1) as run:
        yield from zip(heavy, run(_convert_job, [jobs[n] for n in heavy], _quarantine_job), strict=True)


def choose_channel_ids(plan: ChannelPlan, options: ConvertOptions, names: dict[str, str]) -> list[str]:
    """The case of each channel, one case after the other."""
    if options.cases and options.keep_names:
        ids = choose_case_ids([case.name for case in plan.cases])
    else:
        ids = number_cases((case.parts[0].first.patient for case in plan.cases), names)
    return [case_id for case_id, case in zip(ids, plan.cases, strict=True) for _ in case.parts]
