"""Fetch the studies that are new in a PACS or a folder: ``python -m tasks.ops.ingest WORKSPACE``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from tasks.common.stage import Stage, main
from tasks.ops.incoming import Incoming, list_own_results, read_settings
from voxflow.errors import EXIT_FAILURE, EXIT_OK, EXIT_SOME_FAILED
from voxflow.pacs import DropFolder, IngestOptions, IngestResult, Ledger, ingest, open_archive
from voxflow.progress import say

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from voxflow.pacs import Archive


def run(stage: Stage) -> int:
    """Fill the workspace's inbox with the series that are new; each is taken once.

    Returns:
        3 when a series could not be taken, 1 when none ever could.
    """
    incoming = Incoming.of(stage)
    with Ledger.of(stage.workspace) as ledger, _archive(incoming) as archive:
        series = ingest(archive, incoming.inbox, ledger, incoming.ingest, leave=_list_answered_studies(stage))
    counts = f"{len(series.arrived)} series new, {series.known_count} known, {len(series.waiting)} still growing"
    failed = f", {len(series.failed)} failed (tried again next time)" if series.failed else ""
    say(f"ingest {stage.workspace}: {counts}{failed} → {incoming.inbox}")
    for line in _explain_waiting(archive, series, incoming.ingest):
        say(f"  {line}")
    if series.failed and not (series.arrived or series.known_count):
        return EXIT_FAILURE
    return EXIT_SOME_FAILED if series.failed else EXIT_OK


def _list_answered_studies(stage: Stage) -> set[str]:
    """The studies whose SEG and RTSTRUCT are left to the program for corrections; none where there is no such key."""
    return {result.study_uid for result in list_own_results(stage)[0]} if "corrections" in stage.block else set()


def _explain_waiting(archive: Archive, series: IngestResult, options: IngestOptions) -> list[str]:
    """Say what the next run will look at again, and when."""
    settle = f"{options.settle_s:g} s (ingest.settle_s)"
    fresh = archive.fresh_count if isinstance(archive, DropFolder) else 0
    lines = (
        [f"{fresh} file(s) in {archive.name} were written less than {settle} ago, and may still grow"] if fresh else []
    )
    if series.waiting:
        lines.append(f"{len(series.waiting)} series are taken once they have not grown for {settle}")
    if lines:
        lines.append(f"run it again in {options.settle_s:g} s, or write ingest.settle_s: 0 if nothing grows any more")
    elif not (series.arrived or series.known_count or series.failed):
        keys = ("modalities", "description", "days", "min_instances")
        wishes = options.model_dump(mode="json", include=set(keys), exclude_none=True)
        asked = ", ".join(f"{key} {wishes[key]}" for key in keys if key in wishes)
        lines.append(f"{archive.name} has no series that the key ingest of params.yaml asks for: {asked}")
    return lines


def _archive(incoming: Incoming) -> AbstractContextManager[Archive]:
    options = incoming.ingest
    if options.folder is not None:
        folder = DropFolder(options.folder, quiet_s=options.settle_s, empty=options.empty_folder)
        return contextlib.closing(folder)
    name = str(options.pacs)
    return open_archive(name, read_settings(name))


if __name__ == "__main__":
    sys.exit(main("ingest", run, lock="ingest"))
