"""Take in the masks that people corrected and sent back: ``python -m tasks.ops.corrections WORKSPACE``."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections import Counter
from typing import TYPE_CHECKING

from tasks.common.stage import Stage, own_workspace, run_guarded, stage_parser
from tasks.ops.incoming import list_own_results, read_settings
from voxflow.corrections import CorrectionDesk, CorrectionOptions, CorrectionTable, list_due, take_corrections
from voxflow.errors import EXIT_OK, EXIT_SOME_FAILED, ConfigError
from voxflow.files import write_json
from voxflow.pacs import DropFolder, IngestOptions, open_archive
from voxflow.places import PARAMS, load_params, read_params
from voxflow.progress import say
from voxflow.reporting import ReportOptions, ReportSources, write_report

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from voxflow.pacs import Archive

STATE = "state.json"


def run(stage: Stage) -> int:
    """Recognise, compare and keep what is new, and say whether a training is due.

    Writes data/corrections/WS: corrections.csv, classes.csv, state.json, and the objects themselves.

    Returns:
        3 when an object could not be used, or could not be fetched.
    """
    options = stage.options(CorrectionOptions)
    ingest = stage.options_of("ingest", IngestOptions) if stage.block.get("ingest") else None
    results, inbox = list_own_results(stage)
    desk = CorrectionDesk(
        places=stage,
        results=results,
        table=CorrectionTable(stage.corrections),
        role=options.role,
        absent=options.absent,
        source_is_sample=stage.workspace in (read_params().get("samples") or {}),
    )
    with _open_archive(options, ingest, stage.workspace) as archive:
        intake = take_corrections(archive, desk, inbox, options.days)
    due = list_due(desk.table)
    retrain = bool(options.retrain_after) and len(due) >= options.retrain_after
    states = Counter(row.state for row in desk.decisions)
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "nothing new"
    line = f"{counts}; {len(due)} corrected labels that no training has seen"
    write_json(stage.corrections / STATE, {"line": line, "due": due, "retrain": retrain})
    if desk.decisions:
        _renew_report(stage)
    failed = f", {len(intake.failed)} series failed (tried again next time)" if intake.failed else ""
    starts = f"; a training is due (from {options.retrain_after} on)" if retrain else ""
    say(f"corrections {stage.workspace}: {line}{failed}{starts} → {stage.corrections}")
    return EXIT_SOME_FAILED if intake.failed or states["quarantined"] else EXIT_OK


def mark_trained(stage: Stage, sop_uids: list[str]) -> int:
    """Note that a training has seen these corrected labels."""
    table = CorrectionTable(stage.corrections)
    table.mark_trained(sop_uids, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    table.write()
    say(f"corrections {stage.workspace}: {len(sop_uids)} corrected labels were trained on")
    return EXIT_OK


def _open_archive(
    options: CorrectionOptions, ingest: IngestOptions | None, workspace: str
) -> AbstractContextManager[Archive]:
    folder, pacs = options.folder, options.pacs
    if folder is None and pacs is None and ingest is not None:
        folder, pacs = ingest.folder, ingest.pacs
    if folder is not None:
        quiet_s = ingest.settle_s if ingest else 0
        return contextlib.closing(DropFolder(folder, quiet_s=quiet_s, empty=bool(ingest and ingest.empty_folder)))
    if pacs is None:
        where = f"workspaces.{workspace}.corrections"
        raise ConfigError("nothing says where corrections come from: name pacs or folder", path=PARAMS, where=where)
    return open_archive(pacs, read_settings(pacs))


def _renew_report(stage: Stage) -> None:
    """Show the corrections on the report; one that was never made is not made now."""
    page = stage.evaluation / "report.html"
    if page.is_file():
        options = stage.options_of("report", ReportOptions)
        write_report(ReportSources.of(stage), page, page.with_name("model_card.md"), options)


def program() -> int:
    """Run as a program."""
    parser = stage_parser("corrections")
    text = "only note that a training has seen these corrected labels, by SOPInstanceUID"
    parser.add_argument("--trained", nargs="+", metavar="UID", help=text)
    arguments = parser.parse_args()
    workspace = arguments.workspace

    def work() -> int:
        stage = Stage(workspace, "corrections", load_params("workspaces", workspace))
        with own_workspace(stage):
            return mark_trained(stage, arguments.trained) if arguments.trained else run(stage)

    return run_guarded(f"corrections {workspace}", work, arguments.debug)


if __name__ == "__main__":
    sys.exit(program())
